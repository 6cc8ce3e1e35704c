#include <onnxruntime_cxx_api.h>

#include <array>

#include "explainer.hpp"

namespace explainable {
namespace {

constexpr std::array<const char*, 2> kInputs = {"image", "class_idx"};
constexpr std::array<const char*, 3> kOutputs = {"logits", "explained_class_idx", "cam"};

Ort::SessionOptions make_options(int threads) {
  Ort::SessionOptions options;
  if (threads > 0) options.SetIntraOpNumThreads(threads);
  options.AddConfigEntry("session.intra_op.allow_spinning", "0");  // idle threads leave the processors to others
  return options;
}

std::vector<std::int64_t> read_shape(const Ort::Value& tensor) {
  return tensor.GetTensorTypeAndShapeInfo().GetShape();
}

template <typename T>
std::vector<T> copy_values(const Ort::Value& tensor) {
  const T* values = tensor.GetTensorData<T>();
  return {values, values + tensor.GetTensorTypeAndShapeInfo().GetElementCount()};
}

template <typename T>
Ort::Value wrap_tensor(const Ort::MemoryInfo& memory, const std::vector<T>& values,
                       const std::vector<std::int64_t>& shape) {
  return Ort::Value::CreateTensor(memory, const_cast<T*>(values.data()), values.size(), shape.data(), shape.size());
}

class Onnx : public Runtime {
 public:
  Onnx(const std::filesystem::path& artifact, int threads) {
    try {
      session_ = Ort::Session(environment_, artifact.c_str(), make_options(threads));
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
  }

  std::string metadata_text() const override { return metadata_text_; }

  Outputs run(const Image& image, const Classes& classes) const override {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    // The tensors use our own memory. The interface takes mutable pointers; ONNX Runtime does not write to inputs.
    std::array<Ort::Value, 2> inputs = {
        image.levels.empty() ? wrap_tensor(memory, image.values, image.shape)
                             : wrap_tensor(memory, image.levels, image.shape),
        wrap_tensor(memory, classes.values, classes.shape)};
    try {
      const auto outputs = session_.Run(Ort::RunOptions(), kInputs.data(), inputs.data(), inputs.size(),
                                        kOutputs.data(), kOutputs.size());
      return {read_shape(outputs[0]), copy_values<float>(outputs[0]), copy_values<std::int64_t>(outputs[1]),
              read_shape(outputs[2]), copy_values<float>(outputs[2])};
    } catch (const Ort::Exception& error) {
      throw InputError(std::string("the artifact failed: ") + error.what());
    }
  }

 private:
  Ort::Env environment_{ORT_LOGGING_LEVEL_FATAL, "explain"};  // failures are thrown and not logged as well
  mutable Ort::Session session_{nullptr};                     // Run is not const, but several threads may call it
  std::string metadata_text_;
};

}  // namespace

std::unique_ptr<Runtime> open_runtime(const std::filesystem::path& artifact, int threads, bool /*trusted*/) {
  return std::make_unique<Onnx>(artifact, threads);
}

}  // namespace explainable
