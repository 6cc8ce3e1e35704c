#include "metadata.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "errors.hpp"

namespace explainable {
namespace {

using nlohmann::json;

template <typename T>
std::optional<T> read_optional(const json& record, const char* name) {
  const auto found = record.find(name);
  if (found == record.end() || found->is_null()) return std::nullopt;
  return found->get<T>();
}

// A whole number from 1 to `most`. The library converts numbers of other types, and cuts those that do not fit.
std::int64_t read_count(const json& value, const std::string& name, std::int64_t most) {
  const bool whole = value.is_number_unsigned() && value.get<std::uint64_t>() <= static_cast<std::uint64_t>(most);
  if (whole && value.get<std::int64_t>() >= 1) return value.get<std::int64_t>();
  throw ArtifactError(name + " is " + value.dump().substr(0, 40) + ", expected a whole number from 1 to " +
                      std::to_string(most));
}

Interpolation parse_interpolation(const std::string& name) {
  static const std::map<std::string, Interpolation> known = {{"nearest", Interpolation::nearest},
                                                             {"bilinear", Interpolation::bilinear},
                                                             {"bicubic", Interpolation::bicubic},
                                                             {"lanczos", Interpolation::lanczos}};
  const auto found = known.find(name);
  if (found == known.end()) throw ArtifactError("interpolation " + name.substr(0, 40) + " is not known");
  return found->second;
}

std::vector<float> read_floats(const json& values) {
  std::vector<float> read;
  for (const json& value : values) {
    const double number = value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
    if (!(std::abs(number) <= std::numeric_limits<float>::max())) {
      throw ArtifactError("a mean or std is " + value.dump().substr(0, 40) + ", expected a finite number");
    }
    read.push_back(static_cast<float>(number));
  }
  return read;
}

Preprocess parse_preprocess(const json& record) {
  Preprocess preprocess;
  preprocess.height = static_cast<int>(read_count(record.at("size").at(0), "a side of preprocess.size", kMaxSide));
  preprocess.width = static_cast<int>(read_count(record.at("size").at(1), "a side of preprocess.size", kMaxSide));
  preprocess.mean = read_floats(record.at("mean"));
  preprocess.std = read_floats(record.at("std"));
  const auto resize = record.find("resize");
  if (resize != record.end() && !resize->is_null()) {
    preprocess.resize = static_cast<int>(read_count(*resize, "preprocess.resize", kMaxSide));
  }
  preprocess.pad = read_optional<double>(record, "pad");
  if (preprocess.pad && !(*preprocess.pad >= 0 && *preprocess.pad <= 1)) {
    throw ArtifactError("preprocess.pad is " + record.at("pad").dump().substr(0, 40) + ", expected a number from 0 to 1");
  }
  preprocess.interpolation = parse_interpolation(record.at("interpolation").get<std::string>());
  preprocess.window = read_optional<std::vector<double>>(record, "window").has_value();
  const bool channels = preprocess.mean.size() == 1 || preprocess.mean.size() == 3;
  const auto positive = [](float value) { return value > 0; };
  if (!channels || preprocess.std.size() != preprocess.mean.size() ||
      !std::all_of(preprocess.std.begin(), preprocess.std.end(), positive)) {
    throw ArtifactError("mean or std of preprocess is inconsistent");
  }
  return preprocess;
}

// Throws where a tensor of this shape has more values than a record may ask for; an open size counts as one.
void check_volume(const std::vector<std::int64_t>& shape, const std::string& name) {
  std::int64_t values = 1;
  for (const std::int64_t size : shape) {
    values *= std::max<std::int64_t>(size, 1);
    if (values > kMaxValues) {
      throw ArtifactError(name + " has more than " + std::to_string(kMaxValues) + " values");
    }
  }
}

std::vector<std::int64_t> parse_shape(const json& record, const std::string& name, std::size_t least) {
  const json& sizes = record.at(name);
  std::vector<std::int64_t> shape;
  for (const json& size : sizes) shape.push_back(size.is_null() ? 0 : read_count(size, name, kMaxClasses));
  if (!sizes.is_array() || shape.size() < least) throw ArtifactError(name + " is inconsistent");
  if (shape.at(0) > kMaxSide) throw ArtifactError("the batch of " + name + " is more than " + std::to_string(kMaxSide));
  check_volume(shape, name);
  return shape;
}

std::vector<SizeRange> parse_sizes(const json& record, std::size_t dimensions) {
  std::vector<SizeRange> sizes;
  for (const json& size : record) {
    sizes.push_back({read_count(size.at("minimum"), "the smallest size", kMaxSide),
                     read_count(size.at("multiple"), "the multiple of sizes", kMaxSide)});
  }
  if (sizes.size() + 2 != dimensions) throw ArtifactError("sizes is inconsistent");
  return sizes;
}

void parse_shapes(const json& record, Metadata& metadata) {
  metadata.image_shape = parse_shape(record, "image_shape", 2);
  metadata.logits_shape = parse_shape(record, "logits_shape", 1);
  metadata.cam_shape = parse_shape(record, "cam_shape", 2);
  if (metadata.logits_shape[0] != metadata.batch() || metadata.cam_shape[0] != metadata.batch()) {
    throw ArtifactError("the batches of image_shape, logits_shape and cam_shape differ");
  }
  const auto sizes = record.find("sizes");
  if (sizes != record.end() && !sizes->is_null()) metadata.sizes = parse_sizes(*sizes, metadata.image_shape.size());
}

void check_box_shapes(const Metadata& metadata) {
  const std::vector<std::int64_t>&boxes = metadata.logits_shape, &maps = metadata.cam_shape;
  if (boxes.size() == 3 && boxes[2] == 4 && boxes[1] > 0 && maps.size() == 4 && maps[1] == boxes[1]) return;
  throw ArtifactError("the shapes of boxes and maps are inconsistent");
}

void parse_classes(const json& record, Metadata& metadata) {
  metadata.classes = read_count(record.at("classes"), "classes", kMaxClasses);
  const auto top_k = record.find("top_k");
  if (top_k != record.end() && !top_k->is_null()) metadata.top_k = read_count(*top_k, "top_k", metadata.classes);
  using Names = std::vector<std::string>;
  metadata.class_names = read_optional<Names>(record, "class_names").value_or(Names());
  const auto names = static_cast<std::int64_t>(metadata.class_names.size());
  const bool fits = metadata.has_boxes || names == metadata.classes;  // a detector names the classes of boxes
  if (names != 0 && !fits) throw ArtifactError("class_names is inconsistent");
}

Metadata parse_record(const json& record) {
  Metadata metadata;
  metadata.format = record.at("format").get<std::string>();
  metadata.model = record.at("model").get<std::string>();
  metadata.method = record.at("method").get<std::string>();
  metadata.target_layer = record.at("target_layer").get<std::string>();
  metadata.dtype = record.at("dtype").get<std::string>();
  metadata.pixels = read_optional<std::string>(record, "pixels").value_or("");
  if (!metadata.pixels.empty() && metadata.pixels != "NCHW" && metadata.pixels != "NHWC") {
    throw ArtifactError("pixels is " + metadata.pixels.substr(0, 40) + ", expected NCHW or NHWC");
  }
  const auto detection = record.find("detection");
  metadata.has_boxes = detection != record.end() && !detection->is_null();
  parse_shapes(record, metadata);
  if (metadata.has_boxes) check_box_shapes(metadata);
  parse_classes(record, metadata);
  metadata.diverging = record.at("cam_range").at(0) != 0;
  metadata.threshold = read_optional<double>(record, "threshold").value_or(0.5);
  metadata.output_kind = read_optional<std::string>(record, "output_kind").value_or("");
  metadata.extra_inputs = record.value("extra_inputs", json::array()).size();
  metadata.image_name = record.value("input_names", json::object()).value("image", metadata.image_name);
  const auto preprocess = record.find("preprocess");
  if (preprocess == record.end() || preprocess->is_null()) return metadata;
  metadata.preprocess = parse_preprocess(*preprocess);
  check_volume({std::max<std::int64_t>(metadata.batch(), 1), static_cast<std::int64_t>(metadata.preprocess->mean.size()),
                metadata.preprocess->height, metadata.preprocess->width}, "the prepared image");
  return metadata;
}

}  // namespace

std::string Metadata::class_name(std::int64_t class_idx) const {
  const bool known = class_idx >= 0 && class_idx < static_cast<std::int64_t>(class_names.size());
  return known ? class_names[static_cast<std::size_t>(class_idx)] : std::string();
}

Metadata parse_metadata(const std::string& text, const std::string& artifact) {
  if (text.empty()) {
    throw ArtifactError(artifact + " was not exported by explainable_model: it has no " + kMetadataKey +
                        ". Export the network with explainable_model.export(...).");
  }
  try {
    const json record = json::parse(text);
    const json& version = record.at("schema_version");
    if (!version.is_number_integer() || version > kSchemaVersion) {
      throw ArtifactError("it is of schema " + version.dump().substr(0, 40) + ", this program reads up to " +
                          std::to_string(kSchemaVersion));
    }
    return parse_record(record);
  } catch (const std::exception& error) {
    throw ArtifactError(artifact + " has metadata that cannot be read: " + error.what() +
                        ". Export it again, or build this program from a newer version.");
  }
}

}  // namespace explainable
