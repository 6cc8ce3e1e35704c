#include <algorithm>
#include <string>

#include "decode.hpp"
#include "errors.hpp"

namespace explainable {
namespace {

constexpr std::uint32_t kOrientationTag = 0x0112;
constexpr std::uint32_t kShort = 3;

// Reads integers of a TIFF block in the block's byte order; beyond the end of the block it reads zeros.
struct Tiff {
  const Bytes& bytes;
  bool little;

  std::uint32_t read(std::size_t at, std::size_t size) const {
    if (at > bytes.size() || size > bytes.size() - at) return 0;
    std::uint32_t value = 0;
    for (std::size_t n = 0; n < size; ++n) value = value << 8 | bytes[little ? at + size - 1 - n : at + n];
    return value;
  }
};

}  // namespace

void check_pixels(std::int64_t width, std::int64_t height) {
  if (width * height <= kMaxPixels) return;
  throw InputError("it has " + std::to_string(width) + " x " + std::to_string(height) + " pixels; expected at most " +
                   std::to_string(kMaxPixels) + ".");
}

int read_orientation(const Bytes& exif) {
  if (exif.size() < 8) return 1;
  const Tiff tiff{exif, exif[0] == 'I'};
  if (tiff.read(2, 2) != 42) return 1;
  const std::size_t directory = tiff.read(4, 4);
  const std::size_t entries = tiff.read(directory, 2);
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const std::size_t at = directory + 2 + entry * 12;  // tag, type, count, value
    if (tiff.read(at, 2) != kOrientationTag) continue;
    const std::uint32_t value = tiff.read(at + 2, 2) == kShort ? tiff.read(at + 8, 2) : 1;
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Picture turn_upright(Picture picture, int orientation) {
  if (orientation == 1) return picture;
  const bool swapped = orientation >= 5;  // rows and columns are swapped
  const bool mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool flipped = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Picture turned{swapped ? picture.height : picture.width, swapped ? picture.width : picture.height, {}};
  turned.rgb.resize(picture.rgb.size());
  for (int y = 0; y < turned.height; ++y) {
    for (int x = 0; x < turned.width; ++x) {
      const int across = swapped ? y : x, down = swapped ? x : y;
      const int column = mirrored ? picture.width - 1 - across : across;
      const int row = flipped ? picture.height - 1 - down : down;
      const std::uint8_t* from = picture.row(row) + column * 3;
      std::copy(from, from + 3, turned.row(y) + x * 3);
    }
  }
  return turned;
}

}  // namespace explainable
