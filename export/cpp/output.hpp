// Writes whole files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace explainable {

// Writes a file under a temporary name and renames it, so that `path` is never half a file. A symbolic link is followed
// to the file that it names; mode and owner of a replaced file are kept. Throws InputError where the path is a
// directory, a device, a FIFO or a socket, where the file is read-only, or where it cannot be written.
void write_file(const std::filesystem::path& path, std::span<const std::uint8_t> content);

}  // namespace explainable
