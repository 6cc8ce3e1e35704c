// One function per format that libtorch runs.
#pragma once

#include <filesystem>
#include <memory>

#include "explainer.hpp"

namespace explainable {

// Without `trusted`, the file is checked first: TorchScript can run code, and read and write files.
std::unique_ptr<Runtime> open_torchscript(const std::filesystem::path& artifact, bool trusted);

// The package holds machine code, which runs when the package is opened: open only packages that you trust.
std::unique_ptr<Runtime> open_aotinductor(const std::filesystem::path& artifact);

}  // namespace explainable
