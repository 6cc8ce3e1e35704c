// The decoders behind read_picture; each throws InputError with the reason alone.
#pragma once

#include <cstdint>
#include <vector>

#include "picture.hpp"

namespace explainable {

using Bytes = std::vector<std::uint8_t>;

// A decoded file and the EXIF block it carries (from its TIFF header on), which may be empty.
struct Decoded {
  Picture picture;
  Bytes exif;
};

Decoded decode_jpeg(const Bytes& file);
Decoded decode_png(const Bytes& file);

// Throws InputError if there are more than kMaxPixels.
void check_pixels(std::int64_t width, std::int64_t height);

// The orientation (1 to 8) in an EXIF block, 1 where there is none or it is damaged.
int exif_orientation(const Bytes& exif);

// The picture as it should be seen, given its EXIF orientation.
Picture upright(Picture picture, int orientation);

}  // namespace explainable
