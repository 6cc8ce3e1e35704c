#include <png.h>

#include <csetjmp>
#include <cstring>
#include <string>
#include <utility>

#include "decode.hpp"
#include "errors.hpp"

namespace explainable {
namespace {

// The state that must outlive a longjmp out of libpng.
struct PngReader {
  const Bytes& file;
  std::size_t at = 0;
  std::string error;
  int width = 0;
  int height = 0;
  Bytes rgba;
  std::vector<png_bytep> rows;
  Bytes exif;
};

void on_error(png_structp png, png_const_charp message) {
  static_cast<PngReader*>(png_get_error_ptr(png))->error = message;
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void on_read(png_structp png, png_bytep target, png_size_t length) {
  auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
  if (length > reader->file.size() - reader->at) png_error(png, "the file ends too early");
  std::memcpy(target, reader->file.data() + reader->at, length);
  reader->at += length;
}

// Asks libpng for four channels of 8 bits, as Pillow and explainable_model do: pure gray of 16 bits is rounded and has
// no transparent value, and other channels of 16 bits keep their high byte.
void ask_for_rgba(png_structp png, png_infop info) {
  const int depth = png_get_bit_depth(png, info), kind = png_get_color_type(png, info);
  const bool gray16 = kind == PNG_COLOR_TYPE_GRAY && depth == 16;
  if (kind == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (kind == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(png);
  if (!gray16 && png_get_valid(png, info, PNG_INFO_tRNS)) png_set_tRNS_to_alpha(png);
  if (gray16) png_set_scale_16(png);
  if (!gray16 && depth == 16) png_set_strip_16(png);
  if ((kind & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 0xFF, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
}

void allocate_rows(PngReader& reader) {
  reader.rgba.resize(static_cast<std::size_t>(reader.width) * reader.height * 4);
  reader.rows.resize(static_cast<std::size_t>(reader.height));
  for (int y = 0; y < reader.height; ++y) {
    reader.rows[static_cast<std::size_t>(y)] = reader.rgba.data() + static_cast<std::size_t>(y) * reader.width * 4;
  }
}

struct PngHandle {
  png_structp png;
  png_infop info;

  explicit PngHandle(PngReader& reader)
      : png(png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning)),
        info(png ? png_create_info_struct(png) : nullptr) {}
  ~PngHandle() { png_destroy_read_struct(&png, &info, nullptr); }
  PngHandle(const PngHandle&) = delete;
  PngHandle& operator=(const PngHandle&) = delete;
};

// No local here may need a destructor, because libpng leaves this function by longjmp. Returns false where reader.error
// holds a message, or where there are too many pixels.
bool read_pixels(png_structp png, png_infop info, PngReader& reader) {
  if (setjmp(png_jmpbuf(png))) return false;
  png_set_read_fn(png, &reader, on_read);
  png_read_info(png, info);
  reader.width = static_cast<int>(png_get_image_width(png, info));
  reader.height = static_cast<int>(png_get_image_height(png, info));
  if (std::int64_t{reader.width} * reader.height > kMaxPixels) return false;
  ask_for_rgba(png, info);
  png_read_update_info(png, info);
  allocate_rows(reader);
  png_read_image(png, reader.rows.data());
  png_read_end(png, info);
  png_uint_32 length = 0;
  png_bytep block = nullptr;
  if (png_get_eXIf_1(png, info, &length, &block)) reader.exif.assign(block, block + length);
  return true;
}

// A value blended over white, in units of 1/255.
std::uint8_t blend_over_white(int value, int alpha) {
  const int sum = (value * alpha + 255 * (255 - alpha) + 128) << 7;  // Pillow also keeps seven more bits
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 15);
}

}  // namespace

Decoded decode_png(const Bytes& file) {
  PngReader reader{file, 0, {}, 0, 0, {}, {}, {}};
  const PngHandle handle(reader);
  if (!handle.info || !read_pixels(handle.png, handle.info, reader)) {
    check_pixels(reader.width, reader.height);
    throw InputError((reader.error.empty() ? "there is no memory for it" : reader.error) +
                     ". Is it truncated or damaged?");
  }
  Decoded decoded{{reader.width, reader.height, {}}, std::move(reader.exif)};
  decoded.picture.rgb.resize(reader.rgba.size() / 4 * 3);
  for (std::size_t pixel = 0; pixel < reader.rgba.size() / 4; ++pixel) {
    const std::uint8_t* rgba = reader.rgba.data() + pixel * 4;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      decoded.picture.rgb[pixel * 3 + channel] = blend_over_white(rgba[channel], rgba[3]);
    }
  }
  return decoded;
}

}  // namespace explainable
