// Boxes of a detector: from pixels of the image to pixels of the photo, and drawn over it.
#pragma once

#include <vector>

#include "explainer.hpp"
#include "metadata.hpp"
#include "overlay.hpp"
#include "picture.hpp"
#include "preprocess.hpp"

namespace explainable {

// Reads boxes and maps of an image that was made of a photo of this size.
class BoxReader {
 public:
  BoxReader(const Metadata& metadata, int width, int height);

  // Four edges in pixels of the image, as a box in pixels of the photo, where it is cut off.
  Box place(const float* edges) const;

  // A map without the border of the image. Throws ArtifactError where it has another size than the image.
  Grid crop(Grid heatmap) const;

 private:
  int width_;
  int height_;
  int image_width_;
  int image_height_;
  bool padded_;
  Box seen_;     // the part of the photo in the image
  Place place_;  // where that part lies in the image
};

// The color of the box of a rank; neighbors differ.
Color choose_box_color(std::size_t rank);

// Draws all maps, the largest value at each place, and the boxes over the photo; the first box lies on top.
Picture draw_detections(Picture photo, const std::vector<Detection>& detections, bool diverging);

}  // namespace explainable
