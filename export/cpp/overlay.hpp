// Draws heatmaps over photos.
#pragma once

#include <array>
#include <cstdint>

#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

using Color = std::array<std::uint8_t, 3>;

// The color of a value in [0, 1] in the colormap turbo. In a diverging map 0.5 stands for zero: blue speaks against the
// class, white is neutral, red speaks for it.
Color pick_color(float value, bool diverging);

// Blends the heatmap half and half over the part of the photo that the network saw, as explainable_model draws it.
Picture draw_overlay(Picture photo, const Grid& heatmap, const Box& box, bool diverging);

}  // namespace explainable
