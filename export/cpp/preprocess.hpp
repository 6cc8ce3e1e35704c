// Prepares the network's input from a photo, as the artifact's metadata describe it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metadata.hpp"
#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

// The network's input: one image, or several of one size.
struct Image {
  std::vector<std::int64_t> shape;   // (N, C, H, W), or the layout of photos
  std::vector<float> values;         // in row-major order
  std::vector<std::uint8_t> levels = {};  // the pixels of photos, instead of values, for an artifact that prepares them
};

// The part of a photo of that size that the network sees.
Box find_box(const Preprocess& preprocess, int width, int height);

// Where the whole photo lies in an image with a border, in pixels of the image.
struct Place {
  int left = 0;
  int top = 0;
  int columns = 0;
  int rows = 0;
};

// The place of a photo in the image: the whole image where it has no border.
Place find_place(const Preprocess& preprocess, int width, int height);

// Copies a photo's pixels as (1, 3, H, W) or (1, H, W, 3), for an artifact that prepares photos.
Image copy_levels(const Picture& photo, const std::string& pixels);

// Prepares a photo as (1, C, H, W).
Image to_image(const Preprocess& preprocess, const Picture& photo);

}  // namespace explainable
