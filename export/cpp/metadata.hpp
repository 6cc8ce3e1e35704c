// What an artifact says about itself: the JSON record that every format carries.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace explainable {

inline constexpr const char* kMetadataKey = "explainable_model.json";
inline constexpr int kSchemaVersion = 1;

enum class Interpolation { nearest, bilinear, bicubic, lanczos };

// How a photo becomes the network's input: (pixel / 255 - mean) / std after resizing.
struct Preprocess {
  int height = 0;
  int width = 0;
  std::vector<float> mean;          // one per channel, in units of [0, 1]
  std::vector<float> std;           // likewise
  std::optional<int> resize;        // the shorter side before the center crop; none squashes the whole photo
  Interpolation interpolation = Interpolation::bilinear;
};

// The sizes that an artifact takes along an open dimension of the image.
struct SizeRange {
  std::int64_t minimum = 1;
  std::int64_t multiple = 1;  // what every size is a multiple of
};

struct Metadata {
  std::string format;
  std::string model;
  std::string method;
  std::string target_layer;
  std::vector<std::int64_t> image_shape;  // (N, C, H, W) or as pixels says; 0 stands for an open size
  std::vector<SizeRange> sizes;           // of height and width where they are open, else empty
  std::string dtype;                      // of logits and cam, and of the image where it takes no photos
  std::string pixels;                     // NCHW or NHWC: takes photos in that layout; empty: an image, prepared
  bool diverging = false;                 // zero lies in the middle of what the maps can be
  std::int64_t classes = 0;
  std::int64_t top_k = 0;         // how many classes of an image are explained at once; 0 stands for one alone
  std::size_t extra_inputs = 0;  // how many the network takes besides the image
  std::optional<Preprocess> preprocess;
  std::vector<std::string> class_names;  // empty if unknown

  // The only batch size accepted, or 0 for any.
  std::int64_t batch() const { return image_shape.at(0); }
  // How many maps there are of an image.
  std::int64_t maps() const { return top_k ? top_k : 1; }
  // The name of a class, or an empty string if it has none.
  std::string class_name(std::int64_t class_idx) const;
};

// The record in an artifact's text. Throws ArtifactError if it is empty (a foreign file), unreadable or of a newer
// schema; `artifact` names the file in the message.
Metadata parse_metadata(const std::string& text, const std::string& artifact);

}  // namespace explainable
