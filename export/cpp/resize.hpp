// Separable resampling with antialiasing; the pixels equal those of Pillow's Image.resize(size, resample, box).
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

// Resizes the box of the picture.
Picture resize(const Picture& picture, int width, int height, Interpolation interpolation, const Box& box);

// Resizes the whole grid.
Grid resize(const Grid& grid, int width, int height, Interpolation interpolation);

}  // namespace explainable
