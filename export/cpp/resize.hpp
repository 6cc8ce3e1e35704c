// Separable resampling with antialiasing, the same pixels as Pillow's Image.resize(size, resample, box).
#pragma once

#include <vector>

#include "metadata.hpp"
#include "picture.hpp"

namespace explainable {

// The part of a photo that the network sees, in pixels of the photo.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
};

// One value per pixel, in rows.
struct Grid {
  int width = 0;
  int height = 0;
  std::vector<float> values;  // height x width
};

// The box of the picture at another size.
Picture resize(const Picture& picture, int width, int height, Interpolation interpolation, const Box& box);

// The whole grid at another size.
Grid resize(const Grid& grid, int width, int height, Interpolation interpolation);

}  // namespace explainable
