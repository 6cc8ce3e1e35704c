// The metadata of an artifact: every format carries it as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace explainable {

inline constexpr const char* kMetadataKey = "explainable_model.json";
inline constexpr int kSchemaVersion = 1;

// What a record may ask for, so that a false number cannot take all memory.
inline constexpr std::int64_t kMaxValues = std::int64_t{1} << 28;  // of one input or output: 1 GiB of floats
inline constexpr std::int64_t kMaxSide = std::int64_t{1} << 16;    // height, width, and the batch size
inline constexpr std::int64_t kMaxClasses = std::int64_t{1} << 24;

enum class Interpolation { nearest, bilinear, bicubic, lanczos };

// The preprocessing of a photo: (pixel / 255 - mean) / std after resizing.
struct Preprocess {
  int height = 0;
  int width = 0;
  std::vector<float> mean;          // one per channel, in units of [0, 1]
  std::vector<float> std;           // one per channel, in units of [0, 1]
  std::optional<int> resize;        // the shorter side before the center crop; empty: the whole photo is squashed
  Interpolation interpolation = Interpolation::bilinear;
  std::optional<double> pad;        // gray, from 0 to 1, of the border around a photo that keeps its shape
  bool window = false;              // whether a range of 16-bit values becomes black to white
};

// The sizes that an artifact takes along an open dimension of the image.
struct SizeRange {
  std::int64_t minimum = 1;
  std::int64_t multiple = 1;  // every size is a multiple of it
};

struct Metadata {
  std::string format;
  std::string model;
  std::string method;
  std::string target_layer;
  std::vector<std::int64_t> image_shape;  // (N, C, H, W), or in the layout of pixels; 0 stands for an open size
  std::vector<std::int64_t> logits_shape;  // 0 stands for an open size
  std::vector<std::int64_t> cam_shape;     // (N, h, w), or (N, k, h, w) with top_k; 0 stands for an open size
  std::vector<SizeRange> sizes;           // of height and width where they are open, else empty
  std::string dtype;                      // of logits and cam, and of the image where the artifact takes no photos
  std::string pixels;                     // NCHW or NHWC, the layout of photos; empty where the artifact takes a prepared image
  bool diverging = false;                 // the maps range from negative to positive values
  double threshold = 0.5;   // smallest probability of a class that is present
  std::string output_kind;  // how the output is read as probabilities; empty where the artifact does not say so
  std::int64_t classes = 0;
  std::int64_t top_k = 0;         // the number of classes that are explained at once; 0 without top_k
  bool has_boxes = false;        // a detector: classes counts the ranks of boxes, and logits_shape is that of the boxes
  std::size_t extra_inputs = 0;  // the number of inputs besides the image
  std::string image_name = "image";  // of the graph's input, where inputs have names
  std::optional<Preprocess> preprocess;
  std::vector<std::string> class_names;  // empty if unknown

  // The fixed batch size; 0 where the artifact takes any.
  std::int64_t batch() const { return image_shape.at(0); }
  // The number of maps of one image.
  std::int64_t maps() const { return top_k ? top_k : 1; }
  // The name of a class; empty where it has none.
  std::string class_name(std::int64_t class_idx) const;
};

// Reads the metadata from an artifact's text. Throws ArtifactError where the text is empty (a foreign file),
// unreadable or of a newer schema; `artifact` names the file in the message.
Metadata parse_metadata(const std::string& text, const std::string& artifact);

}  // namespace explainable
