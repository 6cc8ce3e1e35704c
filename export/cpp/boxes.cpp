#include "boxes.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "errors.hpp"

namespace explainable {
namespace {

constexpr std::array<double, 10> kHues = {0.0, 0.33, 0.58, 0.15, 0.83, 0.5, 0.08, 0.72, 0.25, 0.92};
constexpr int kLine = 160;  // a line is the photo's longer side by this, at least two pixels

// Fills a rectangle, whose edges lie inside the photo.
void fill(Picture& photo, int left, int top, int right, int bottom, const Color& color) {
  for (int y = std::max(top, 0); y < std::min(bottom, photo.height); ++y) {
    for (int x = std::max(left, 0); x < std::min(right, photo.width); ++x) {
      std::copy(color.begin(), color.end(), photo.row(y) + x * 3);
    }
  }
}

// Draws the lines of a box, `width` pixels to its inside.
void draw_lines(Picture& photo, int left, int top, int right, int bottom, int width, const Color& color) {
  fill(photo, left, top, right, std::min(top + width, bottom), color);
  fill(photo, left, std::max(bottom - width, top), right, bottom, color);
  fill(photo, left, top, std::min(left + width, right), bottom, color);
  fill(photo, std::max(right - width, left), top, right, bottom, color);
}

}  // namespace

BoxReader::BoxReader(const Metadata& metadata, int width, int height)
    : width_(width), height_(height), image_width_(width), image_height_(height), padded_(false),
      seen_{0, 0, static_cast<double>(width), static_cast<double>(height)}, place_{0, 0, width, height} {
  if (!metadata.pixels.empty()) return;  // the image is the photo
  image_width_ = metadata.preprocess->width;
  image_height_ = metadata.preprocess->height;
  padded_ = metadata.preprocess->pad.has_value();
  seen_ = find_box(*metadata.preprocess, width, height);
  place_ = find_place(*metadata.preprocess, width, height);
}

Box BoxReader::place(const float* edges) const {
  const double across = (seen_.right - seen_.left) / place_.columns, down = (seen_.bottom - seen_.top) / place_.rows;
  const auto column = [&](float edge) {
    return std::clamp(seen_.left + (static_cast<double>(edge) - place_.left) * across, 0.0, static_cast<double>(width_));
  };
  const auto row = [&](float edge) {
    return std::clamp(seen_.top + (static_cast<double>(edge) - place_.top) * down, 0.0, static_cast<double>(height_));
  };
  return {column(edges[0]), row(edges[1]), column(edges[2]), row(edges[3])};
}

Grid BoxReader::crop(Grid heatmap) const {
  if (!padded_) return heatmap;
  if (heatmap.width != image_width_ || heatmap.height != image_height_) {
    throw ArtifactError("An image with a border has maps of its own size; export the artifact with other options than "
                        "upsample='none'.");
  }
  Grid cut{place_.columns, place_.rows, {}};
  for (int y = place_.top; y < place_.top + place_.rows; ++y) {
    const auto line = heatmap.values.begin() + static_cast<std::ptrdiff_t>(y) * heatmap.width + place_.left;
    cut.values.insert(cut.values.end(), line, line + place_.columns);
  }
  return cut;
}

Color choose_box_color(std::size_t rank) {
  const double saturation = rank < kHues.size() ? 0.85 : 0.5, hue = kHues[rank % kHues.size()];
  Color color{};
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const double turn = std::fmod(5.0 - 2.0 * static_cast<double>(channel) + 6 * hue, 6.0);
    const double share = std::clamp(std::min(turn, 4 - turn), 0.0, 1.0);
    color[channel] = static_cast<std::uint8_t>(std::nearbyint(255 * (1 - saturation * share)));
  }
  return color;
}

Picture draw_detections(Picture photo, const std::vector<Detection>& detections, bool diverging) {
  if (detections.empty()) return photo;
  Grid strongest = detections.front().heatmap;
  for (const Detection& each : detections) {
    for (std::size_t n = 0; n < strongest.values.size(); ++n) {
      const float value = each.heatmap.values.at(n);
      if (std::abs(value) > std::abs(strongest.values[n])) strongest.values[n] = value;
    }
  }
  photo = draw_overlay(std::move(photo), strongest, detections.front().box, diverging);
  const int width = std::max(2, std::max(photo.width, photo.height) / kLine);
  for (std::size_t rank = detections.size(); rank-- > 0;) {
    const Box& box = detections[rank].place;
    const int left = static_cast<int>(std::lround(box.left)), top = static_cast<int>(std::lround(box.top));
    const int right = static_cast<int>(std::lround(box.right)), bottom = static_cast<int>(std::lround(box.bottom));
    draw_lines(photo, left - 1, top - 1, right + 1, bottom + 1, width + 2, {0, 0, 0});
    draw_lines(photo, left, top, right, bottom, width, choose_box_color(rank));
  }
  return photo;
}

}  // namespace explainable
