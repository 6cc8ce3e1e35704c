// One function per format that libtorch runs.
#pragma once

#include <filesystem>
#include <memory>

#include "explainer.hpp"

namespace explainable {

std::unique_ptr<Runtime> open_torchscript(const std::filesystem::path& artifact);

// The package holds machine code, which runs when the package is opened: open only packages that you trust.
std::unique_ptr<Runtime> open_aotinductor(const std::filesystem::path& artifact);

}  // namespace explainable
