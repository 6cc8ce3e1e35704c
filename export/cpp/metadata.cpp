#include "metadata.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
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

Interpolation parse_interpolation(const std::string& name) {
  static const std::map<std::string, Interpolation> known = {{"nearest", Interpolation::nearest},
                                                             {"bilinear", Interpolation::bilinear},
                                                             {"bicubic", Interpolation::bicubic},
                                                             {"lanczos", Interpolation::lanczos}};
  const auto found = known.find(name);
  if (found == known.end()) throw ArtifactError("interpolation " + name + " is not known");
  return found->second;
}

Preprocess parse_preprocess(const json& record) {
  Preprocess preprocess;
  preprocess.height = record.at("size").at(0);
  preprocess.width = record.at("size").at(1);
  preprocess.mean = record.at("mean").get<std::vector<float>>();
  preprocess.std = record.at("std").get<std::vector<float>>();
  preprocess.resize = read_optional<int>(record, "resize");
  preprocess.interpolation = parse_interpolation(record.at("interpolation"));
  preprocess.window = read_optional<std::vector<double>>(record, "window").has_value();
  const bool channels = preprocess.mean.size() == 1 || preprocess.mean.size() == 3;
  const bool positive = preprocess.height > 0 && preprocess.width > 0 && preprocess.resize.value_or(1) > 0;
  if (!channels || preprocess.std.size() != preprocess.mean.size() || !positive) {
    throw ArtifactError("preprocess is inconsistent");
  }
  return preprocess;
}

std::vector<std::int64_t> parse_shape(const json& record) {
  std::vector<std::int64_t> shape;
  for (const json& size : record) shape.push_back(size.is_null() ? 0 : size.get<std::int64_t>());
  const auto sensible = [](std::int64_t size) { return size >= 0; };
  if (shape.size() < 2 || !std::all_of(shape.begin(), shape.end(), sensible)) {
    throw ArtifactError("image_shape is inconsistent");
  }
  return shape;
}

std::vector<SizeRange> parse_sizes(const json& record, std::size_t dimensions) {
  std::vector<SizeRange> sizes;
  for (const json& size : record) sizes.push_back({size.at("minimum"), size.at("multiple")});
  const auto sensible = [](const SizeRange& size) { return size.minimum > 0 && size.multiple > 0; };
  if (sizes.size() + 2 != dimensions || !std::all_of(sizes.begin(), sizes.end(), sensible)) {
    throw ArtifactError("sizes is inconsistent");
  }
  return sizes;
}

Metadata parse_record(const json& record) {
  Metadata metadata;
  metadata.format = record.at("format");
  metadata.model = record.at("model");
  metadata.method = record.at("method");
  metadata.target_layer = record.at("target_layer");
  metadata.image_shape = parse_shape(record.at("image_shape"));
  const auto sizes = record.find("sizes");
  if (sizes != record.end() && !sizes->is_null()) metadata.sizes = parse_sizes(*sizes, metadata.image_shape.size());
  metadata.dtype = record.at("dtype");
  metadata.pixels = read_optional<std::string>(record, "pixels").value_or("");
  if (!metadata.pixels.empty() && metadata.pixels != "NCHW" && metadata.pixels != "NHWC") {
    throw ArtifactError("pixels is " + metadata.pixels + ", expected NCHW or NHWC");
  }
  metadata.diverging = record.at("cam_range").at(0) != 0;
  metadata.threshold = read_optional<double>(record, "threshold").value_or(0.5);
  metadata.output_kind = read_optional<std::string>(record, "output_kind").value_or("");
  metadata.classes = record.at("classes");
  metadata.top_k = read_optional<std::int64_t>(record, "top_k").value_or(0);
  metadata.extra_inputs = record.value("extra_inputs", json::array()).size();
  if (metadata.classes < 1 || metadata.top_k < 0) throw ArtifactError("classes or top_k is inconsistent");
  using Names = std::vector<std::string>;
  metadata.class_names = read_optional<Names>(record, "class_names").value_or(Names());
  const auto preprocess = record.find("preprocess");
  if (preprocess != record.end() && !preprocess->is_null()) metadata.preprocess = parse_preprocess(*preprocess);
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
    const int version = record.at("schema_version");
    if (version > kSchemaVersion) {
      throw ArtifactError("it is of schema " + std::to_string(version) + ", this program reads up to " +
                          std::to_string(kSchemaVersion));
    }
    return parse_record(record);
  } catch (const std::exception& error) {
    throw ArtifactError(artifact + " has metadata that cannot be read: " + error.what() +
                        ". Export it again, or build this program from a newer version.");
  }
}

}  // namespace explainable
