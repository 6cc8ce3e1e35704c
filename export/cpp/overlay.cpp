#include "overlay.hpp"

#include <algorithm>
#include <cmath>

namespace explainable {
namespace {

struct Span {
  int first;
  int last;  // exclusive
};

// Rounds to whole pixels, at least one; a half goes to the even neighbor, as in Python.
Span round_to_pixels(double start, double end, int full) {
  const int first = std::min(static_cast<int>(std::nearbyint(start)), full - 1);
  return {first, std::max(static_cast<int>(std::nearbyint(end)), first + 1)};
}

// Scales a map to [0, 1]; a map with values beyond [0, 1], or [-1, 1], is first divided by its largest value.
Grid scale_to_unit(Grid heatmap, bool diverging) {
  float largest = 1.0f;
  for (const float value : heatmap.values) largest = std::max(largest, diverging ? std::abs(value) : value);
  for (float& value : heatmap.values) {
    value = diverging ? (value / largest + 1) / 2 : std::clamp(value / largest, 0.0f, 1.0f);
  }
  return heatmap;
}

}  // namespace

Picture draw_overlay(Picture photo, const Grid& heatmap, const Box& box, bool diverging) {
  const Span across = round_to_pixels(box.left, box.right, photo.width);
  const Span down = round_to_pixels(box.top, box.bottom, photo.height);
  const int width = across.last - across.first;
  const Grid large = resize(scale_to_unit(heatmap, diverging), width, down.last - down.first, Interpolation::bicubic);
  const float* value = large.values.data();
  for (int y = down.first; y < down.last; ++y) {
    std::uint8_t* pixel = photo.row(y) + across.first * 3;
    for (int x = 0; x < width; ++x, ++value) {
      for (const std::uint8_t channel : pick_color(std::clamp(*value, 0.0f, 1.0f), diverging)) {
        *pixel = static_cast<std::uint8_t>((*pixel + channel) / 2);
        ++pixel;
      }
    }
  }
  return photo;
}

}  // namespace explainable
