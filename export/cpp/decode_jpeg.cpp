#include <turbojpeg.h>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "decode.hpp"
#include "errors.hpp"

namespace explainable {
namespace {

struct DestroyHandle {
  void operator()(void* handle) const { tjDestroy(handle); }
};
using Handle = std::unique_ptr<std::remove_pointer_t<tjhandle>, DestroyHandle>;

constexpr std::string_view kExifHeader("Exif\0\0", 6);

// Each segment before the first scan is FF, a marker, and a big-endian length that counts its own two bytes.
Bytes find_exif(const Bytes& file) {
  std::size_t at = 2;
  while (at + 4 <= file.size() && file[at] == 0xFF && file[at + 1] != 0xDA) {
    if (file[at + 1] == 0xFF) {  // a filler before a marker
      ++at;
      continue;
    }
    const std::size_t length = std::size_t{file[at + 2]} << 8 | file[at + 3];
    if (length < 2 || at + 2 + length > file.size()) break;
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(at + 4);
    const auto end = begin + static_cast<std::ptrdiff_t>(length - 2);
    const std::string_view payload(reinterpret_cast<const char*>(file.data()) + at + 4, length - 2);
    if (file[at + 1] == 0xE1 && payload.substr(0, kExifHeader.size()) == kExifHeader) {
      return Bytes(begin + static_cast<std::ptrdiff_t>(kExifHeader.size()), end);
    }
    at += 2 + length;
  }
  return {};
}

void decompress(const Handle& handle, const Bytes& file, Bytes& pixels, int width, int height, int format) {
  pixels.resize(static_cast<std::size_t>(width) * height * tjPixelSize[format]);
  const int failed = tjDecompress2(handle.get(), file.data(), static_cast<unsigned long>(file.size()), pixels.data(),
                                   width, 0, height, format, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS);
  if (!failed) return;
  const std::string message = tjGetErrorStr2(handle.get());
  // Many cameras write extraneous bytes between markers, which is harmless. Missing pixels are an error.
  const bool harmless = tjGetErrorCode(handle.get()) == TJERR_WARNING && message.find("Premature") == message.npos;
  if (!harmless) throw InputError(message + ". Is it truncated or damaged?");
}

std::uint8_t divide_by_255(int value) { return static_cast<std::uint8_t>((value + 128 + ((value + 128) >> 8)) >> 8); }

// Adobe's programs store inks inverted, and readers expect that: 255 is no ink.
Bytes convert_inverted_cmyk(const Bytes& cmyk) {
  Bytes rgb(cmyk.size() / 4 * 3);
  for (std::size_t pixel = 0; pixel < cmyk.size() / 4; ++pixel) {
    const int white = cmyk[pixel * 4 + 3];
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const int ink = 255 - cmyk[pixel * 4 + channel];
      rgb[pixel * 3 + channel] = static_cast<std::uint8_t>(white - divide_by_255(ink * white));
    }
  }
  return rgb;
}

}  // namespace

Decoded decode_jpeg(const Bytes& file) {
  const Handle handle(tjInitDecompress());
  if (!handle) throw InputError("there is no memory for the JPEG decoder");
  int width = 0, height = 0, subsampling = 0, colorspace = 0;
  if (tjDecompressHeader3(handle.get(), file.data(), static_cast<unsigned long>(file.size()), &width, &height,
                          &subsampling, &colorspace) != 0) {
    throw InputError(std::string(tjGetErrorStr2(handle.get())) + ". Is it truncated or damaged?");
  }
  check_pixels(width, height);
  Decoded decoded{{width, height, {}}, find_exif(file)};
  if (colorspace == TJCS_CMYK || colorspace == TJCS_YCCK) {
    Bytes cmyk;
    decompress(handle, file, cmyk, width, height, TJPF_CMYK);
    decoded.picture.rgb = convert_inverted_cmyk(cmyk);
  } else {
    decompress(handle, file, decoded.picture.rgb, width, height, TJPF_RGB);
  }
  return decoded;
}

}  // namespace explainable
