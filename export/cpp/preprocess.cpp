#include "preprocess.hpp"

#include <algorithm>
#include <cmath>

namespace explainable {
namespace {

// ITU-R 601-2 luma in fixed point, as in Pillow's mode L.
std::uint8_t convert_to_gray(const std::uint8_t* rgb) {
  return static_cast<std::uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

Picture convert_to_grayscale(Picture photo) {
  for (std::size_t at = 0; at < photo.rgb.size(); at += 3) {
    std::fill_n(photo.rgb.begin() + at, 3, convert_to_gray(&photo.rgb[at]));
  }
  return photo;
}

// Shrinks a crop that is larger than the resized photo until it fits, so that the photo is never distorted.
Box shrink_box(const Preprocess& preprocess, int width, int height) {
  const double scale = static_cast<double>(std::min(width, height)) / *preprocess.resize;
  double crop_height = preprocess.height * scale, crop_width = preprocess.width * scale;
  const double shrink = std::min({1.0, height / crop_height, width / crop_width});
  crop_height = std::min(crop_height * shrink, static_cast<double>(height));
  crop_width = std::min(crop_width * shrink, static_cast<double>(width));
  const double left = (width - crop_width) / 2, top = (height - crop_height) / 2;
  return {left, top, left + crop_width, top + crop_height};
}

// Divides whole numbers and rounds, a half to the even neighbor.
int divide(std::int64_t numerator, std::int64_t denominator) {
  const std::int64_t twice = 2 * numerator + denominator, whole = twice / (2 * denominator);
  return static_cast<int>(twice % (2 * denominator) == 0 ? whole - whole % 2 : whole);
}

// Lays a photo into an image of gray.
Picture add_border(const Picture& small, const Place& place, const Preprocess& preprocess) {
  Picture whole = small;
  whole.width = preprocess.width;
  whole.height = preprocess.height;
  const auto gray = static_cast<std::uint8_t>(std::nearbyint(255 * *preprocess.pad));
  whole.rgb.assign(static_cast<std::size_t>(preprocess.width) * static_cast<std::size_t>(preprocess.height) * 3, gray);
  for (int y = 0; y < small.height; ++y) {
    const auto line = small.rgb.begin() + static_cast<std::ptrdiff_t>(y) * small.width * 3;
    std::copy(line, line + small.width * 3, whole.row(place.top + y) + place.left * 3);
  }
  return whole;
}

}  // namespace

Box find_box(const Preprocess& preprocess, int width, int height) {
  if (!preprocess.resize) return {0, 0, static_cast<double>(width), static_cast<double>(height)};
  if (std::max(preprocess.height, preprocess.width) > *preprocess.resize) return shrink_box(preprocess, width, height);
  const std::int64_t shorter = std::min(width, height), resize = *preprocess.resize;
  const double rows = static_cast<double>(resize * height / shorter);
  const double columns = static_cast<double>(resize * width / shorter);
  const double top = std::nearbyint((rows - preprocess.height) / 2);  // a half to the even neighbor
  const double left = std::nearbyint((columns - preprocess.width) / 2);
  return {left * width / columns, top * height / rows, (left + preprocess.width) * width / columns,
          (top + preprocess.height) * height / rows};
}

Place find_place(const Preprocess& preprocess, int width, int height) {
  if (!preprocess.pad) return {0, 0, preprocess.width, preprocess.height};
  const std::int64_t high = height, wide = width;
  const int rows = std::max(1, std::min(preprocess.height, divide(high * preprocess.width, wide)));
  const int columns = std::max(1, std::min(preprocess.width, divide(wide * preprocess.height, high)));
  return {(preprocess.width - columns) / 2, (preprocess.height - rows) / 2, columns, rows};
}

Image copy_levels(const Picture& photo, const std::string& pixels) {
  if (pixels == "NHWC") return {{1, photo.height, photo.width, 3}, {}, photo.rgb};
  const std::size_t plane = photo.rgb.size() / 3;
  Image image{{1, 3, photo.height, photo.width}, {}, std::vector<std::uint8_t>(photo.rgb.size())};
  for (std::size_t at = 0; at < photo.rgb.size(); ++at) image.levels[at % 3 * plane + at / 3] = photo.rgb[at];
  return image;
}

Image to_image(const Preprocess& preprocess, const Picture& photo) {
  const std::size_t channels = preprocess.mean.size();
  const Box box = find_box(preprocess, photo.width, photo.height);
  const Place place = find_place(preprocess, photo.width, photo.height);
  Picture small = resize(channels == 1 ? convert_to_grayscale(photo) : photo, place.columns, place.rows,
                         preprocess.interpolation, box);
  if (preprocess.pad) small = add_border(small, place, preprocess);
  const std::size_t plane = small.rgb.size() / 3;
  Image image{{1, static_cast<std::int64_t>(channels), preprocess.height, preprocess.width}, {}, {}};
  image.values.resize(channels * plane);
  for (std::size_t channel = 0; channel < channels; ++channel) {
    for (std::size_t pixel = 0; pixel < plane; ++pixel) {
      const float value = static_cast<float>(small.rgb[pixel * 3 + channel]) / 255.0f;
      image.values[channel * plane + pixel] = (value - preprocess.mean[channel]) / preprocess.std[channel];
    }
  }
  return image;
}

}  // namespace explainable
