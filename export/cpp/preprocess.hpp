// From a photo to the network's input, as the artifact's metadata say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metadata.hpp"
#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

// What the network takes: one image, or several of one size.
struct Image {
  std::vector<std::int64_t> shape;   // (N, C, H, W), or the layout of photos
  std::vector<float> values;         // in that order
  std::vector<std::uint8_t> levels = {};  // instead of values, of photos for an artifact that prepares them
};

// The part of a photo of that size which the network sees.
Box seen_box(const Preprocess& preprocess, int width, int height);

// A photo as it is, as (1, 3, H, W) or (1, H, W, 3), for an artifact that prepares it.
Image as_decoded(const Picture& photo, const std::string& pixels);

// A photo as (1, C, H, W).
Image to_image(const Preprocess& preprocess, const Picture& photo);

}  // namespace explainable
