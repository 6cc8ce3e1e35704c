// From a photo to the network's input, as the artifact's metadata say.
#pragma once

#include <cstdint>
#include <vector>

#include "metadata.hpp"
#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

// What the network takes: one image, or several of one size.
struct Image {
  std::vector<std::int64_t> shape;  // (N, C, H, W)
  std::vector<float> values;        // in that order
};

// The part of a photo of that size which the network sees.
Box seen_box(const Preprocess& preprocess, int width, int height);

// A photo as (1, C, H, W).
Image to_image(const Preprocess& preprocess, const Picture& photo);

}  // namespace explainable
