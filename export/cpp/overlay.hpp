// Pictures of maps.
#pragma once

#include <array>
#include <cstdint>

#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

using Color = std::array<std::uint8_t, 3>;

// The color of a value in [0, 1]: turbo's, or that of a map whose zero lies in the middle, at 0.5: white, from blue
// (against the class) to red.
Color color(float value, bool diverging);

// The photo with the heatmap over the part that the network saw, half and half: explainable_model.overlay's picture.
Picture overlay(Picture photo, const Grid& heatmap, const Box& box, bool diverging);

}  // namespace explainable
