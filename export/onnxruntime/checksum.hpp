// Whether an .onnx file and the weights beside it belong together.
#pragma once

#include <filesystem>

namespace explainable {

// Compares <name>.onnx and <name>.onnx.data, where there is one, with the checksum that the record holds: an export may
// have replaced one of them. Throws ArtifactError where they differ, or where a file cannot be read.
void check_halves(const std::filesystem::path& artifact);

}  // namespace explainable
