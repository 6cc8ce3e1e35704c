#include "picture.hpp"

#include <png.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string>
#include <system_error>
#include <utility>

#include "decode.hpp"
#include "errors.hpp"
#include "output.hpp"

namespace explainable {
namespace {

constexpr std::size_t kBitDepthAt = 24;  // in the header of a PNG
constexpr std::uintmax_t kMaxFileSize = std::uintmax_t{1} << 30;

bool starts_with(const Bytes& bytes, std::initializer_list<std::uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

Bytes read_bytes(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) throw InputError("There is no file " + path.string() + ".");
  if (!std::filesystem::is_regular_file(path, error)) throw InputError(path.string() + " is not a file.");
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error || size > kMaxFileSize) {
    throw InputError(path.string() + " has more than 1 GiB; expected a photo.");
  }
  Bytes bytes(static_cast<std::size_t>(size));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (!file) throw InputError(path.string() + " cannot be read; is it readable for this user?");
  return bytes;
}

}  // namespace

Picture decode_picture(const Bytes& bytes, const std::string& name) {
  const bool jpeg = starts_with(bytes, {0xFF, 0xD8, 0xFF});
  const bool png = starts_with(bytes, {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'});
  if (!jpeg && !png) throw InputError(name + " is not a picture that this program can read; expected JPEG or PNG.");
  try {
    Decoded decoded = jpeg ? decode_jpeg(bytes) : decode_png(bytes);
    Picture picture = turn_upright(std::move(decoded.picture), read_orientation(decoded.exif));
    picture.deep = png && bytes.at(kBitDepthAt) == 16;
    return picture;
  } catch (const InputError& error) {
    throw InputError(name + " cannot be read: " + error.what());
  }
}

Picture read_picture(const std::filesystem::path& path) { return decode_picture(read_bytes(path), path.string()); }

void write_png(const Picture& picture, const std::filesystem::path& path) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  Bytes content(size);
  if (!png_image_write_to_memory(&image, content.data(), &size, 0, picture.rgb.data(), 0, nullptr)) {
    throw InputError(path.string() + " cannot be written: " + image.message + ".");
  }
  content.resize(size);
  write_file(path, content);
}

}  // namespace explainable
