// The decoders behind read_picture. Each throws InputError with the reason, without the file's name.
#pragma once

#include <cstdint>
#include <vector>

#include "picture.hpp"

namespace explainable {

using Bytes = std::vector<std::uint8_t>;

// A decoded file and its EXIF block from the TIFF header on; the block may be empty.
struct Decoded {
  Picture picture;
  Bytes exif;
};

Decoded decode_jpeg(const Bytes& file);
Decoded decode_png(const Bytes& file);

// Throws InputError where there are more than kMaxPixels.
void check_pixels(std::int64_t width, std::int64_t height);

// The orientation (1 to 8) in an EXIF block; 1 where there is none or the block is damaged.
int read_orientation(const Bytes& exif);

// The picture turned upright by its EXIF orientation.
Picture turn_upright(Picture picture, int orientation);

}  // namespace explainable
