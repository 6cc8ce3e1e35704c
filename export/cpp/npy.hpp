// NumPy's file format, for whoever wants the numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace explainable {

// Write float32 values, rows first. Throws InputError if the file cannot be written.
void write_npy(const std::filesystem::path& path, const std::vector<std::int64_t>& shape,
               const std::vector<float>& values);

}  // namespace explainable
