// Writes NumPy's file format.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace explainable {

// Writes float32 values in row-major order, see write_file.
void write_npy(const std::filesystem::path& path, const std::vector<std::int64_t>& shape,
               const std::vector<float>& values);

}  // namespace explainable
