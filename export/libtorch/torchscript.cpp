#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <map>

#include "runtimes.hpp"

namespace explainable {
namespace {

// libtorch's message without the page of C++ and TorchScript frames around it.
std::string reason(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

at::ScalarType dtype_of(const std::string& name) {
  static const std::map<std::string, at::ScalarType> known = {
      {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}};
  const auto found = known.find(name);
  if (found == known.end()) throw ArtifactError("the image is " + name + "; this program makes floating point images.");
  return found->second;
}

template <typename T>
std::vector<T> values_of(const at::Tensor& tensor, at::ScalarType dtype) {
  const at::Tensor plain = tensor.to(dtype).contiguous();
  return {plain.const_data_ptr<T>(), plain.const_data_ptr<T>() + plain.numel()};
}

class TorchScript : public Runtime {
 public:
  explicit TorchScript(const std::filesystem::path& artifact) {
    torch::jit::ExtraFilesMap extra{{kMetadataKey, ""}};
    try {
      module_ = torch::jit::load(artifact.string(), c10::Device(c10::kCPU), extra);
    } catch (const std::exception& error) {
      throw ArtifactError(artifact.string() + " cannot be loaded: " + reason(error));
    }
    module_.eval();
    metadata_text_ = extra.at(kMetadataKey);
    if (!metadata_text_.empty()) dtype_ = dtype_of(parse_metadata(metadata_text_, artifact.string()).dtype);
  }

  std::string metadata_text() const override { return metadata_text_; }

  Outputs run(const Image& image, const std::vector<std::int64_t>& class_idx) const override {
    const c10::InferenceMode guard;  // of this thread: no version counters, no autograd
    // from_blob wants mutable pointers; the artifact does not write to its inputs.
    const at::Tensor pixels = at::from_blob(const_cast<float*>(image.values.data()), image.shape, at::kFloat);
    const at::Tensor classes = at::from_blob(const_cast<std::int64_t*>(class_idx.data()),
                                             {static_cast<std::int64_t>(class_idx.size())}, at::kLong);
    try {
      const auto tuple = module_.forward({pixels.to(dtype_), classes}).toTuple();
      const auto output = [&](std::size_t n) { return tuple->elements().at(n).toTensor(); };
      return {output(0).sizes().vec(), values_of<float>(output(0), at::kFloat),
              values_of<std::int64_t>(output(1), at::kLong),
              output(2).sizes().vec(), values_of<float>(output(2), at::kFloat)};
    } catch (const std::exception& error) {
      throw InputError("the artifact failed: " + reason(error));
    }
  }

 private:
  mutable torch::jit::Module module_;  // forward is not const, but safe from several threads
  std::string metadata_text_;
  at::ScalarType dtype_ = at::kFloat;
};

}  // namespace

std::unique_ptr<Runtime> open_torchscript(const std::filesystem::path& artifact) {
  return std::make_unique<TorchScript>(artifact);
}

}  // namespace explainable
