// Pictures of maps.
#pragma once

#include <array>
#include <cstdint>

#include "picture.hpp"
#include "resize.hpp"

namespace explainable {

using Color = std::array<std::uint8_t, 3>;

// The colour of a value in [0, 1].
Color turbo(float value);

// The photo with the heatmap over the part that the network saw, half and half: explainable_model.overlay's picture.
Picture overlay(Picture photo, const Grid& heatmap, const Box& box);

}  // namespace explainable
