#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace explainable {
namespace {

struct Kernel {
  double radius;
  double (*weight)(double);
};

double triangle(double t) { return std::max(0.0, 1.0 - std::abs(t)); }

double cubic(double t) {  // Keys 1981 with a = -1/2
  t = std::abs(t);
  if (t < 1) return (1.5 * t - 2.5) * t * t + 1;
  return t < 2 ? -0.5 * (((t - 5) * t + 8) * t - 4) : 0;
}

double sinc(double t) {
  if (t == 0) return 1;
  t *= std::numbers::pi;
  return std::sin(t) / t;
}

double lanczos3(double t) { return t >= -3 && t < 3 ? sinc(t) * sinc(t / 3) : 0; }

Kernel choose_kernel(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::bicubic:
      return {2, cubic};
    case Interpolation::lanczos:
      return {3, lanczos3};
    default:
      return {1, triangle};
  }
}

// The input pixels of one output pixel, and their weights, which sum to one.
struct Window {
  int first = 0;
  std::vector<double> weights;
};

int find_nearest(double position, int full) { return std::clamp(static_cast<int>(position), 0, full - 1); }

std::vector<Window> make_nearest_windows(int full, float start, float end, int size) {
  std::vector<Window> windows;
  const double scale = static_cast<double>(end - start) / size;
  double position = start + scale * 0.5;
  for (int n = 0; n < size; ++n, position += scale) windows.push_back({find_nearest(position, full), {1.0}});
  return windows;
}

// When the picture shrinks, the windows grow with the scale, so that every pixel counts. Pillow passes the box in
// single precision.
std::vector<Window> make_windows(int full, float start, float end, int size, Interpolation interpolation) {
  if (interpolation == Interpolation::nearest) return make_nearest_windows(full, start, end, size);
  const Kernel kernel = choose_kernel(interpolation);
  const double scale = static_cast<double>(end - start) / size, stretch = std::max(scale, 1.0);
  const double radius = kernel.radius * stretch;
  std::vector<Window> windows(static_cast<std::size_t>(size));
  for (int n = 0; n < size; ++n) {
    Window& window = windows[static_cast<std::size_t>(n)];
    const double center = start + (n + 0.5) * scale;
    window.first = std::max(static_cast<int>(center - radius + 0.5), 0);
    const int last = std::min(static_cast<int>(center + radius + 0.5), full);
    double sum = 0;
    for (int k = window.first; k < last; ++k) {
      window.weights.push_back(kernel.weight((k - center + 0.5) / stretch));
      sum += window.weights.back();
    }
    for (double& weight : window.weights) weight /= sum;
  }
  return windows;
}

// Eight-bit pixels are weighted in fixed point and rounded after each direction; floats are not rounded.
constexpr int kPrecision = 22;

struct FixedPoint {
  using Value = std::uint8_t;
  using Sum = std::int32_t;
  static Sum start() { return 1 << (kPrecision - 1); }
  static Sum weight(double weight) { return static_cast<Sum>(std::round(weight * (1 << kPrecision))); }
  static Value finish(Sum sum) { return static_cast<Value>(std::clamp(sum >> kPrecision, 0, 255)); }
};

struct FloatingPoint {
  using Value = float;
  using Sum = double;
  static Sum start() { return 0; }
  static Sum weight(double weight) { return weight; }
  static Value finish(Sum sum) { return static_cast<Value>(sum); }
};

// Resamples the middle of three dimensions (outer, length, inner) to the number of windows.
template <typename Arithmetic, typename Values = std::vector<typename Arithmetic::Value>>
Values apply_windows(const Values& values, std::size_t outer, std::size_t length, std::size_t inner,
                     const std::vector<Window>& windows) {
  Values result(outer * windows.size() * inner);
  std::vector<typename Arithmetic::Sum> sums(inner);
  for (std::size_t n = 0; n < windows.size(); ++n) {
    std::vector<typename Arithmetic::Sum> weights;
    for (double weight : windows[n].weights) weights.push_back(Arithmetic::weight(weight));
    for (std::size_t block = 0; block < outer; ++block) {
      std::fill(sums.begin(), sums.end(), Arithmetic::start());
      const auto* source = values.data() + (block * length + static_cast<std::size_t>(windows[n].first)) * inner;
      for (const auto weight : weights) {
        for (std::size_t k = 0; k < inner; ++k) sums[k] += source[k] * weight;
        source += inner;
      }
      auto* target = result.data() + (block * windows.size() + n) * inner;
      for (std::size_t k = 0; k < inner; ++k) target[k] = Arithmetic::finish(sums[k]);
    }
  }
  return result;
}

// Resamples in Pillow's order, which matters because eight-bit pixels are rounded in between: rows first where the
// number of rows falls by much more than that of columns. Pillow before 13 always resamples columns first, which
// differs by one gray level.
template <typename Arithmetic, typename Values>
Values resample(const Values& values, int width, int height, std::size_t channels, const std::vector<Window>& across,
                const std::vector<Window>& down) {
  const auto rows = static_cast<std::size_t>(height), columns = static_cast<std::size_t>(width);
  const int rows_gone = height - static_cast<int>(down.size());
  const int columns_gone = width - static_cast<int>(across.size());
  if (rows_gone > 0 && rows_gone > 2 * columns_gone) {
    const Values low = apply_windows<Arithmetic>(values, 1, rows, columns * channels, down);
    return apply_windows<Arithmetic>(low, down.size(), columns, channels, across);
  }
  const Values narrow = apply_windows<Arithmetic>(values, rows, columns, channels, across);
  return apply_windows<Arithmetic>(narrow, 1, rows, across.size() * channels, down);
}

}  // namespace

Picture resize(const Picture& picture, int width, int height, Interpolation interpolation, const Box& box) {
  const auto side = [&](int full, double start, double end, int size) {
    return make_windows(full, static_cast<float>(start), static_cast<float>(end), size, interpolation);
  };
  const auto across = side(picture.width, box.left, box.right, width);
  const auto down = side(picture.height, box.top, box.bottom, height);
  return {width, height, resample<FixedPoint>(picture.rgb, picture.width, picture.height, 3, across, down)};
}

Grid resize(const Grid& grid, int width, int height, Interpolation interpolation) {
  const auto across = make_windows(grid.width, 0, static_cast<float>(grid.width), width, interpolation);
  const auto down = make_windows(grid.height, 0, static_cast<float>(grid.height), height, interpolation);
  return {width, height, resample<FloatingPoint>(grid.values, grid.width, grid.height, 1, across, down)};
}

}  // namespace explainable
