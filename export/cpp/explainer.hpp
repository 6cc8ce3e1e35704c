// Predict and explain: one artifact, any number of threads.
//
//   explainable::Explainer explainer("resnet50.ts");
//   const auto explanation = explainer.explain(explainable::read_picture("cat.jpg"));
//   std::cout << explanation.class_name << ' ' << explanation.probability.value_or(0);
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "errors.hpp"
#include "metadata.hpp"
#include "picture.hpp"
#include "preprocess.hpp"
#include "resize.hpp"

namespace explainable {

inline constexpr std::int64_t kPredicted = -1;  // the class that the network predicts

// The classes to explain, kPredicted for the predicted one.
struct Classes {
  std::vector<std::int64_t> shape;   // (N,), or (N, k) where the artifact explains k classes of an image
  std::vector<std::int64_t> values;  // in that order
};

// The outputs of an artifact.
struct Outputs {
  std::vector<std::int64_t> logits_shape;  // (N, classes), or another shape of the network's; boxes (N, k, 4)
  std::vector<float> logits;               // of a detector the boxes, in pixels of the image
  std::vector<std::int64_t> class_idx;  // (N,) or (N, k): the classes that were explained, or those of the boxes
  std::vector<std::int64_t> cam_shape;  // (N, h, w) or (N, k, h, w)
  std::vector<float> cam;               // in [0, 1], unless the artifact was exported with another normalization
  std::vector<float> scores = {};        // (N, k) of a detector's boxes
  std::vector<std::uint8_t> valid = {};  // (N, k): whether there is a box of this rank
};

// An artifact in its own runtime, implemented once per runtime. Several threads may call `run` at once.
class Runtime {
 public:
  virtual ~Runtime() = default;
  // The artifact's metadata as JSON text; empty where there is none.
  virtual std::string metadata_text() const = 0;
  // The caller has checked `image` and `classes` against the metadata.
  virtual Outputs run(const Image& image, const Classes& classes) const = 0;
};

// Opens an artifact for at most `threads` threads per call; 0 leaves the number to the runtime. Without `trusted`,
// refuses files that may run code of their own. Throws ArtifactError.
std::unique_ptr<Runtime> open_runtime(const std::filesystem::path& artifact, int threads, bool trusted);

struct Explanation {
  std::int64_t class_idx = 0;           // the class that was explained
  std::string class_name;               // empty if unknown
  double score = 0;                     // the network's own output for that class, summed over pixels
  std::optional<double> probability;    // of that class; empty where the output has none, or its kind is unknown
  std::vector<double> scores;           // of every class, or of the single output; empty for an output per pixel
  std::vector<double> probabilities;    // of every class, or empty
  Grid heatmap;                         // in [0, 1], unless the artifact was exported with another normalization
  Box box;                              // the part of the photo that the heatmap covers
};

// A box that a detector found, and the map that explains it.
struct Detection {
  Box place;                   // in pixels of the photo
  std::int64_t class_idx = 0;  // as the detector counts
  std::string class_name;      // empty if unknown
  double score = 0;            // from 0 to 1
  Grid heatmap;
  Box box;                     // the part of the photo that the heatmap covers
};

class Explainer {
 public:
  // Throws ArtifactError where the artifact is missing, damaged, foreign, of a newer schema or not for this runtime;
  // and, without `trusted`, where it may run code of its own: machine code, or TorchScript that export does not write.
  explicit Explainer(const std::filesystem::path& artifact, int threads = 0, bool trusted = false);

  const Metadata& metadata() const { return metadata_; }

  // Explains one photo for `class_idx`, or for the predicted class. Throws InputError where there is no such class, and
  // ArtifactError where the artifact does not say how a photo becomes its input.
  Explanation explain(const Picture& photo, std::int64_t class_idx = kPredicted) const;

  // Explains the k best classes, the best first, where the artifact was made with top_k; else the one class.
  std::vector<Explanation> explain_top(const Picture& photo, std::int64_t class_idx = kPredicted) const;

  // Finds the boxes of one photo with a detector's artifact, the best first, or the one of this rank. Throws as explain.
  std::vector<Detection> detect(const Picture& photo, std::int64_t rank = kPredicted) const;

  // The part of a photo that the network sees, which the heatmaps cover.
  Box find_seen(const Picture& photo) const;

  // Runs a preprocessed batch. Throws InputError where the shape is not the artifact's, a value is not finite, or a
  // class is out of range.
  Outputs run(const Image& image, const Classes& classes) const;

 private:
  // Runs the artifact on a photo; every class is class_idx, or only the first, where the others are the best.
  Outputs run_photo(const Picture& photo, std::int64_t class_idx, bool first) const;
  // Throws ArtifactError where the artifact finds boxes and the other kind of answer was asked for, or the reverse.
  void require_boxes(bool wanted) const;

  std::string name_;
  std::unique_ptr<Runtime> runtime_;
  Metadata metadata_;
};

}  // namespace explainable
