#include "explainer.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "boxes.hpp"

namespace explainable {
namespace {

std::string write_shape(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + ")";
}

// The shape that an artifact takes, with letters for open sizes: (N, 3, H, W).
std::string write_expected_shape(const Metadata& metadata) {
  const std::string names = metadata.pixels.empty() ? "NCHW" : metadata.pixels;
  std::string text;
  for (std::size_t n = 0; n < metadata.image_shape.size(); ++n) {
    const std::int64_t size = metadata.image_shape[n];
    text += (n ? ", " : "") + (size ? std::to_string(size) : names.substr(std::min<std::size_t>(n, 3), 1));
  }
  text = "(" + text + ")";
  for (const SizeRange& size : metadata.sizes) {
    text += ", from " + std::to_string(size.minimum) + " in steps of " + std::to_string(size.multiple);
  }
  return text;
}

bool fits(const std::vector<std::int64_t>& shape, const Metadata& metadata) {
  if (shape.size() != metadata.image_shape.size()) return false;
  for (std::size_t n = 0; n < shape.size(); ++n) {
    const std::int64_t expected = metadata.image_shape[n];
    if (expected ? shape[n] != expected : shape[n] < 1) return false;
    if (n < 2 || metadata.sizes.empty() || !metadata.pixels.empty()) continue;  // photos may be of any size
    const SizeRange& size = metadata.sizes[n - 2];
    if (shape[n] < size.minimum || shape[n] % size.multiple != 0) return false;
  }
  return true;
}

std::int64_t count_values(const std::vector<std::int64_t>& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

void check_image(const Image& image, const Metadata& metadata, const std::string& name) {
  if (!fits(image.shape, metadata)) {
    throw InputError("image has shape " + write_shape(image.shape) + "; " + name + " expects " +
                     write_expected_shape(metadata) + ".");
  }
  const std::size_t given = metadata.pixels.empty() ? image.values.size() : image.levels.size();
  if (static_cast<std::int64_t>(given) != count_values(image.shape)) {
    throw InputError("image has " + std::to_string(given) + " values; expected " +
                     std::to_string(count_values(image.shape)) + " for its shape " + write_shape(image.shape) + ".");
  }
  if (!std::all_of(image.values.begin(), image.values.end(), [](float value) { return std::isfinite(value); })) {
    throw InputError("image has NaN or infinite values; expected finite ones.");
  }
}

std::vector<std::int64_t> make_classes_shape(const Metadata& metadata, std::int64_t batch) {
  return metadata.top_k ? std::vector{batch, metadata.top_k} : std::vector{batch};
}

void check_classes(const Classes& classes, const Metadata& metadata, std::int64_t batch) {
  const std::vector<std::int64_t> expected = make_classes_shape(metadata, batch);
  if (classes.shape != expected || static_cast<std::int64_t>(classes.values.size()) != count_values(expected)) {
    throw InputError("class_idx has shape " + write_shape(classes.shape) + " and " +
                     std::to_string(classes.values.size()) + " values; expected " + write_shape(expected) +
                     ", -1 for the predicted class.");
  }
  for (const std::int64_t wanted : classes.values) {
    if (wanted >= kPredicted && wanted < metadata.classes) continue;
    throw InputError("class " + std::to_string(wanted) + " is out of range; the network has " +
                     std::to_string(metadata.classes) + " class(es): expected 0 to " +
                     std::to_string(metadata.classes - 1) + ", or -1 for the predicted one.");
  }
}

bool may_fit(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& expected) {
  if (shape.size() != expected.size()) return false;
  for (std::size_t n = 0; n < shape.size(); ++n) {
    if (shape[n] < 1 || (expected[n] && shape[n] != expected[n])) return false;
  }
  return true;
}

void check_output(const std::string& output, std::size_t given, const std::vector<std::int64_t>& shape,
                  std::vector<std::int64_t> expected, std::int64_t batch, const std::string& name) {
  expected.at(0) = batch;
  if (may_fit(shape, expected) && static_cast<std::int64_t>(given) == count_values(shape)) return;
  throw ArtifactError(name + " is not what its metadata describes: " + output + " has the shape " + write_shape(shape) +
                      ", expected " + write_shape(expected) + " (0 for any size). Export it again.");
}

void check_boxes(const Outputs& outputs, const Metadata& metadata, std::int64_t batch, const std::string& name) {
  check_output("boxes", outputs.logits.size(), outputs.logits_shape, metadata.logits_shape, batch, name);
  check_output("cam", outputs.cam.size(), outputs.cam_shape, metadata.cam_shape, batch, name);
  const auto count = static_cast<std::size_t>(batch * metadata.logits_shape.at(1));
  if (outputs.scores.size() == count && outputs.valid.size() == count && outputs.class_idx.size() == count) return;
  throw ArtifactError(name + " is not what its metadata describes: it gave " + std::to_string(outputs.scores.size()) +
                      " scores, expected " + std::to_string(count) + ". Export it again.");
}

// The artifact may be another than its metadata describes.
void check_outputs(const Outputs& outputs, const Metadata& metadata, std::int64_t batch, const std::string& name) {
  if (metadata.has_boxes) return check_boxes(outputs, metadata, batch, name);
  check_output("logits", outputs.logits.size(), outputs.logits_shape, metadata.logits_shape, batch, name);
  check_output("cam", outputs.cam.size(), outputs.cam_shape, metadata.cam_shape, batch, name);
  const auto known = [&](std::int64_t class_idx) { return class_idx >= 0 && class_idx < metadata.classes; };
  if (static_cast<std::int64_t>(outputs.class_idx.size()) == batch * metadata.maps() &&
      std::all_of(outputs.class_idx.begin(), outputs.class_idx.end(), known)) {
    return;
  }
  throw ArtifactError(name + " is not what its metadata describes: it explained " +
                      std::to_string(outputs.class_idx.size()) + " classes, expected " +
                      std::to_string(batch * metadata.maps()) + " from 0 to " + std::to_string(metadata.classes - 1) +
                      ". Export it again.");
}

std::int64_t count_classes(const Outputs& outputs) {
  return outputs.logits_shape.size() < 2 ? 1 : outputs.logits_shape[1];
}

bool has_one_value_per_class(const Outputs& outputs) {
  return count_values(outputs.logits_shape) == outputs.logits_shape.at(0) * count_classes(outputs);
}

// The network's own output for each class of the first image, summed over pixels.
std::vector<double> sum_scores(const Outputs& outputs) {
  const std::int64_t classes = count_classes(outputs);
  const std::int64_t pixels = count_values(outputs.logits_shape) / outputs.logits_shape.at(0) / classes;
  std::vector<double> scores(static_cast<std::size_t>(classes), 0.0);
  for (std::int64_t n = 0; n < classes * pixels; ++n) {
    scores[static_cast<std::size_t>(n / pixels)] += outputs.logits[static_cast<std::size_t>(n)];
  }
  return scores;
}

// The probability of each class of the first image; empty where the artifact does not say how its output is read, and
// where the output has none.
std::vector<double> compute_probabilities(const Outputs& outputs, const Metadata& metadata) {
  const std::string& kind = metadata.output_kind;
  const std::int64_t classes = count_classes(outputs);
  if (kind.empty() || kind == "scores" || !has_one_value_per_class(outputs)) return {};
  std::vector<double> odds(outputs.logits.begin(), outputs.logits.begin() + classes);
  if (kind == "logits") {
    const double top = *std::max_element(odds.begin(), odds.end());
    for (double& value : odds) value = std::exp(value - top);
    const double total = std::accumulate(odds.begin(), odds.end(), 0.0);
    for (double& value : odds) value /= total;
  } else if (kind == "sigmoid_logits" || kind == "binary_logits") {
    for (double& value : odds) value = 0.5 * (1 + std::tanh(value / 2));
  }
  if (classes == 1 && metadata.classes == 2) odds.insert(odds.begin(), 1 - odds[0]);  // absent, present
  return odds;
}

// The n-th map of the first image.
Grid read_cam(const Outputs& outputs, std::size_t n) {
  const std::size_t dimensions = outputs.cam_shape.size();
  const std::int64_t height = outputs.cam_shape.at(dimensions - 2), width = outputs.cam_shape.at(dimensions - 1);
  const auto first = outputs.cam.begin() + static_cast<std::ptrdiff_t>(n) * height * width;
  return {static_cast<int>(width), static_cast<int>(height), {first, first + height * width}};
}

bool are_finite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

// Throws where the answer cannot be read as one score and one map for each explained class.
void check_answer(const Outputs& outputs, const std::vector<double>& scores, const std::vector<double>& odds,
                  std::size_t class_dimensions, const std::string& name) {
  if (!are_finite(outputs.logits) || !are_finite(outputs.cam)) {
    throw ArtifactError("The answer of " + name + " to this photo is not finite.");
  }
  const auto last = static_cast<std::size_t>(*std::max_element(outputs.class_idx.begin(), outputs.class_idx.end()));
  const bool scored = (scores.size() == 1 || last < scores.size()) && (odds.empty() || last < odds.size());
  if (scored && outputs.cam_shape.size() == class_dimensions + 2) return;
  throw ArtifactError("The logits of " + name + " have the shape " + write_shape(outputs.logits_shape) + " and the maps " +
                      write_shape(outputs.cam_shape) + "; this program reads one score for each class and flat maps.");
}

// Repeats the image to an artifact's fixed batch size.
void repeat(Image& image, std::int64_t copies) {
  if (count_values(image.shape) > kMaxValues / copies) {
    throw InputError("the artifact takes " + std::to_string(copies) + " photos at once, and so many of this size need " +
                     "too much memory; give a smaller photo, or export without a fixed batch.");
  }
  const std::vector<float> values = image.values;
  const std::vector<std::uint8_t> levels = image.levels;
  image.shape[0] = copies;
  for (std::int64_t n = 1; n < copies; ++n) {
    image.values.insert(image.values.end(), values.begin(), values.end());
    image.levels.insert(image.levels.end(), levels.begin(), levels.end());
  }
}

const Preprocess& require_preprocess(const Metadata& metadata, const std::string& name) {
  if (metadata.preprocess) return *metadata.preprocess;
  throw ArtifactError(name +
                      " does not say how a photo becomes its input; export it with preprocess=Preprocess(...).");
}

}  // namespace

Explainer::Explainer(const std::filesystem::path& artifact, int threads, bool trusted)
    : name_(artifact.filename().string()) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(artifact, error)) {
    throw ArtifactError("There is no artifact " + artifact.string() + ".");
  }
  runtime_ = open_runtime(artifact, threads, trusted);
  metadata_ = parse_metadata(runtime_->metadata_text(), artifact.string());
}

void Explainer::require_boxes(bool wanted) const {
  if (metadata_.has_boxes == wanted) return;
  throw ArtifactError(wanted ? name_ + " explains classes, and finds no boxes; call explain."
                             : name_ + " finds boxes, each with a map; call detect.");
}

Box Explainer::find_seen(const Picture& photo) const {
  const Box whole{0, 0, static_cast<double>(photo.width), static_cast<double>(photo.height)};
  if (!metadata_.pixels.empty()) return whole;
  return find_box(require_preprocess(metadata_, name_), photo.width, photo.height);
}

Outputs Explainer::run_photo(const Picture& photo, std::int64_t class_idx, bool first) const {
  const bool takes_photos = !metadata_.pixels.empty();
  if (!takes_photos) require_preprocess(metadata_, name_);
  if (photo.deep && metadata_.preprocess && metadata_.preprocess->window) {
    throw InputError("The photo has 16 bits for each value, and " + name_ +
                     " chooses the values that become black and white; this program reads the full range alone. "
                     "Convert the photo to 8 bits.");
  }
  Image image = takes_photos ? copy_levels(photo, metadata_.pixels) : to_image(*metadata_.preprocess, photo);
  const std::int64_t copies = std::max<std::int64_t>(metadata_.batch(), 1);
  repeat(image, copies);
  const std::vector<std::int64_t> shape = make_classes_shape(metadata_, copies);
  std::vector<std::int64_t> asked(static_cast<std::size_t>(count_values(shape)), first ? kPredicted : class_idx);
  const std::size_t row = asked.size() / static_cast<std::size_t>(copies);
  for (std::size_t n = 0; n < asked.size(); n += row) asked[n] = class_idx;
  return run(image, {shape, asked});
}

std::vector<Explanation> Explainer::explain_top(const Picture& photo, std::int64_t class_idx) const {
  require_boxes(false);
  const Outputs outputs = run_photo(photo, class_idx, false);
  const Box box = find_seen(photo);
  const std::vector<double> odds = compute_probabilities(outputs, metadata_);
  const std::vector<double> scores = sum_scores(outputs);
  const std::vector<double> ranked = has_one_value_per_class(outputs) ? scores : std::vector<double>();
  check_answer(outputs, scores, odds, metadata_.top_k ? 2 : 1, name_);
  std::vector<Explanation> explanations;
  for (std::size_t n = 0; n < static_cast<std::size_t>(metadata_.maps()); ++n) {
    const std::int64_t explained = outputs.class_idx.at(n);
    std::optional<double> probability;
    if (!odds.empty()) probability = odds.at(static_cast<std::size_t>(explained));
    const double score = scores.at(scores.size() == 1 ? 0 : static_cast<std::size_t>(explained));
    explanations.push_back(
        {explained, metadata_.class_name(explained), score, probability, ranked, odds, read_cam(outputs, n), box});
  }
  return explanations;
}

std::vector<Detection> Explainer::detect(const Picture& photo, std::int64_t rank) const {
  require_boxes(true);
  const Outputs outputs = run_photo(photo, rank, true);
  if (!are_finite(outputs.logits) || !are_finite(outputs.scores) || !are_finite(outputs.cam)) {
    throw ArtifactError("The answer of " + name_ + " to this photo is not finite.");
  }
  const auto columns = static_cast<std::size_t>(metadata_.logits_shape.at(1));
  const BoxReader reader(metadata_, photo.width, photo.height);
  std::vector<Detection> found;
  for (std::size_t n = 0; n < (rank == kPredicted ? columns : 1); ++n) {
    if (!outputs.valid.at(n)) continue;
    const std::int64_t class_idx = outputs.class_idx.at(n);
    found.push_back({reader.place(&outputs.logits.at(4 * n)), class_idx, metadata_.class_name(class_idx),
                     outputs.scores.at(n), reader.crop(read_cam(outputs, n)), find_seen(photo)});
  }
  return found;
}

Explanation Explainer::explain(const Picture& photo, std::int64_t class_idx) const {
  return explain_top(photo, class_idx).front();
}

Outputs Explainer::run(const Image& image, const Classes& classes) const {
  if (metadata_.extra_inputs > 0) {
    throw ArtifactError(name_ + " takes " + std::to_string(metadata_.extra_inputs) +
                        " input(s) besides the image; this library gives the image alone.");
  }
  check_image(image, metadata_, name_);
  check_classes(classes, metadata_, image.shape.at(0));
  Outputs outputs = runtime_->run(image, classes);
  check_outputs(outputs, metadata_, image.shape.at(0), name_);
  return outputs;
}

}  // namespace explainable
