#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "checksum.hpp"
#include "explainer.hpp"

namespace explainable {
namespace {

constexpr const char* kClassIdx = "class_idx";
constexpr std::array<const char*, 3> kOutputs = {"logits", "explained_class_idx", "cam"};
constexpr std::array<const char*, 5> kBoxOutputs = {"boxes", "scores", "labels", "valid", "cam"};
constexpr std::uintmax_t kFolded = 1 << 28;  // bytes of a constant that ONNX Runtime may compute from others

// The options of a session. A small file cannot make ONNX Runtime compute a large constant while it is loaded.
Ort::SessionOptions make_options(const std::filesystem::path& artifact, int threads) {
  Ort::SessionOptions options;
  std::error_code error;  // a missing file is named by ONNX Runtime
  const std::uintmax_t length = std::filesystem::file_size(artifact, error);
  const std::string largest = std::to_string(std::max<std::uintmax_t>(error ? 0 : length, kFolded));
  options.AddConfigEntry("optimization.constant_folding_max_output_size_in_bytes", largest.c_str());
  if (threads > 0) options.SetIntraOpNumThreads(threads);
  options.AddConfigEntry("session.intra_op.allow_spinning", "0");  // idle threads leave the processors to others
  return options;
}

std::vector<std::int64_t> read_shape(const Ort::Value& tensor) {
  return tensor.GetTensorTypeAndShapeInfo().GetShape();
}

template <typename T>
constexpr ONNXTensorElementDataType kElement = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
template <>
constexpr ONNXTensorElementDataType kElement<float> = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
template <>
constexpr ONNXTensorElementDataType kElement<std::int64_t> = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
template <>
constexpr ONNXTensorElementDataType kElement<bool> = ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;

// Copies a tensor, which must have the type T: ONNX Runtime gives its bytes whatever the type.
template <typename T, typename Stored = T>
std::vector<Stored> copy_values(const Ort::Value& tensor, const char* name) {
  if (!tensor.IsTensor() || tensor.GetTensorTypeAndShapeInfo().GetElementType() != kElement<T>) {
    throw ArtifactError(std::string("the artifact's output ") + name + " has not the type that its metadata describes.");
  }
  const T* values = tensor.GetTensorData<T>();
  return {values, values + tensor.GetTensorTypeAndShapeInfo().GetElementCount()};
}

struct Declared {
  std::string name;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<std::int64_t> shape;  // -1 for an open size
};

Declared read_declared(Ort::AllocatedStringPtr name, const Ort::TypeInfo& info) {
  Declared declared{name.get(), ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, {}};
  if (info.GetONNXType() != ONNX_TYPE_TENSOR) return declared;
  const auto tensor = info.GetTensorTypeAndShapeInfo();
  return {declared.name, tensor.GetElementType(), tensor.GetShape()};
}

// Throws where the graph has another input or output than the record.
void check_declared(const std::vector<Declared>& graph, const Declared& expected, const std::string& artifact) {
  for (const Declared& declared : graph) {
    if (declared.name != expected.name) continue;
    bool fits = declared.type == expected.type && declared.shape.size() == expected.shape.size();
    for (std::size_t n = 0; fits && n < expected.shape.size(); ++n) {
      fits = declared.shape[n] < 0 || !expected.shape[n] || declared.shape[n] == expected.shape[n];
    }
    if (fits) return;
  }
  throw ArtifactError(artifact + " is not what its metadata describes: the graph has no " + expected.name +
                      " of that type and shape. Export it again.");
}

template <typename T>
Ort::Value wrap_tensor(const Ort::MemoryInfo& memory, const std::vector<T>& values,
                       const std::vector<std::int64_t>& shape) {
  return Ort::Value::CreateTensor(memory, const_cast<T*>(values.data()), values.size(), shape.data(), shape.size());
}

class Onnx : public Runtime {
 public:
  Onnx(const std::filesystem::path& artifact, int threads) {
    check_halves(artifact);
    try {
      session_ = Ort::Session(environment_, artifact.c_str(), make_options(artifact, threads));
    } catch (const Ort::Exception& error) {
      throw ArtifactError(artifact.string() + " is damaged or not an ONNX model that ONNX Runtime can load: " +
                          error.what());
    }
    Ort::AllocatorWithDefaultOptions allocator;
    const auto text = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(kMetadataKey, allocator);
    if (!text) return;
    metadata_text_ = text.get();
    const Metadata metadata = parse_metadata(metadata_text_, artifact.string());
    if (metadata.dtype != "float32") {
      throw ArtifactError(artifact.string() + " takes " + metadata.dtype + "; this program makes float32 images. "
                          "Export network.float() with a float32 image.");
    }
    has_boxes_ = metadata.has_boxes;
    check_graph(metadata, artifact.string());
    image_name_ = metadata.image_name;
  }

  std::string metadata_text() const override { return metadata_text_; }

  Outputs run(const Image& image, const Classes& classes) const override {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    // The tensors use our own memory. The interface takes mutable pointers; ONNX Runtime does not write to inputs.
    std::array<Ort::Value, 2> inputs = {
        image.levels.empty() ? wrap_tensor(memory, image.values, image.shape)
                             : wrap_tensor(memory, image.levels, image.shape),
        wrap_tensor(memory, classes.values, classes.shape)};
    const std::array<const char*, 2> asked = {image_name_.c_str(), kClassIdx};
    const auto call = [&](const auto& names) {
      return session_.Run(Ort::RunOptions(), asked.data(), inputs.data(), inputs.size(), names.data(), names.size());
    };
    try {
      if (has_boxes_) return copy_boxes(call(kBoxOutputs));
      const auto outputs = call(kOutputs);
      const auto logits = copy_values<float>(outputs[0], kOutputs[0]);
      const auto class_idx = copy_values<std::int64_t>(outputs[1], kOutputs[1]);
      const auto cam = copy_values<float>(outputs[2], kOutputs[2]);
      return {read_shape(outputs[0]), logits, class_idx, read_shape(outputs[2]), cam};
    } catch (const Ort::Exception& error) {
      throw InputError(std::string("the artifact failed: ") + error.what());
    }
  }

 private:
  static Outputs copy_boxes(const std::vector<Ort::Value>& outputs) {
    return {read_shape(outputs[0]),
            copy_values<float>(outputs[0], kBoxOutputs[0]),
            copy_values<std::int64_t>(outputs[2], kBoxOutputs[2]),
            read_shape(outputs[4]),
            copy_values<float>(outputs[4], kBoxOutputs[4]),
            copy_values<float>(outputs[1], kBoxOutputs[1]),
            copy_values<bool, std::uint8_t>(outputs[3], kBoxOutputs[3])};
  }

  void check_graph(const Metadata& metadata, const std::string& artifact) const {
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<Declared> inputs, outputs;
    for (std::size_t n = 0; n < session_.GetInputCount(); ++n) {
      inputs.push_back(read_declared(session_.GetInputNameAllocated(n, allocator), session_.GetInputTypeInfo(n)));
    }
    for (std::size_t n = 0; n < session_.GetOutputCount(); ++n) {
      outputs.push_back(read_declared(session_.GetOutputNameAllocated(n, allocator), session_.GetOutputTypeInfo(n)));
    }
    const auto image = metadata.pixels.empty() ? kElement<float> : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    const auto classes = kElement<std::int64_t>;
    const std::vector<std::int64_t> asked = metadata.top_k ? std::vector{metadata.batch(), metadata.top_k}
                                                           : std::vector{metadata.batch()};
    check_declared(inputs, {metadata.image_name, image, metadata.image_shape}, artifact);
    check_declared(inputs, {kClassIdx, classes, asked}, artifact);
    if (metadata.has_boxes) {
      const std::vector<std::int64_t> ranks = {metadata.batch(), metadata.logits_shape.at(1)};
      check_declared(outputs, {kBoxOutputs[0], kElement<float>, metadata.logits_shape}, artifact);
      check_declared(outputs, {kBoxOutputs[1], kElement<float>, ranks}, artifact);
      check_declared(outputs, {kBoxOutputs[2], classes, ranks}, artifact);
      check_declared(outputs, {kBoxOutputs[3], kElement<bool>, ranks}, artifact);
    } else {
      check_declared(outputs, {kOutputs[0], kElement<float>, metadata.logits_shape}, artifact);
      check_declared(outputs, {kOutputs[1], classes, asked}, artifact);
    }
    check_declared(outputs, {kOutputs[2], kElement<float>, metadata.cam_shape}, artifact);
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_FATAL, "explain"};  // failures are thrown and not logged as well
  mutable Ort::Session session_{nullptr};                     // Run is not const, but several threads may call it
  std::string metadata_text_;
  std::string image_name_;  // of the graph's input
  bool has_boxes_ = false;
};

}  // namespace

std::unique_ptr<Runtime> open_runtime(const std::filesystem::path& artifact, int threads, bool /*trusted*/) {
  return std::make_unique<Onnx>(artifact, threads);
}

}  // namespace explainable
