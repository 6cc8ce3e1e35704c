// Reads photos upright as RGB, and writes them as PNG.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace explainable {

inline constexpr std::int64_t kMaxPixels = 100'000'000;  // a larger picture is refused before it is decoded

struct Picture {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> rgb;  // height x width x 3
  bool deep = false;              // whether the file has 16 bits for each value

  const std::uint8_t* row(int y) const { return rgb.data() + static_cast<std::size_t>(y) * width * 3; }
  std::uint8_t* row(int y) { return rgb.data() + static_cast<std::size_t>(y) * width * 3; }
};

// Reads a JPEG or PNG of any kind (gray, palette, alpha, CMYK, 16 bits, interlaced, progressive) as RGB, with alpha
// over white and the EXIF orientation applied. Throws InputError where the file is missing, not a picture, truncated,
// damaged or too large.
Picture read_picture(const std::filesystem::path& path);

// Decodes the bytes of a file; `name` is for messages.
Picture decode_picture(const std::vector<std::uint8_t>& bytes, const std::string& name);

// Writes a PNG, see write_file.
void write_png(const Picture& picture, const std::filesystem::path& path);

}  // namespace explainable
