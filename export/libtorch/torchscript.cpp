#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <fstream>
#include <iterator>
#include <sstream>

#include "guard.hpp"
#include "runtimes.hpp"
#include "tensors.hpp"

namespace explainable {
namespace {

std::istringstream read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), {});
  return std::istringstream(std::move(content));
}

class TorchScript : public Runtime {
 public:
  TorchScript(const std::filesystem::path& artifact, bool trusted) {
    torch::jit::ExtraFilesMap extra{{kMetadataKey, ""}};
    try {
      std::istringstream bytes = read_file(artifact);  // what is checked is what is loaded
      if (!trusted) {
        caffe2::serialize::PyTorchStreamReader reader(&bytes);
        if (!reader.hasRecord(std::string("extra/") + kMetadataKey)) parse_metadata("", artifact.string());  // throws
        check_torchscript(reader, artifact.string());
        bytes.seekg(0);
      }
      module_ = torch::jit::load(bytes, c10::Device(c10::kCPU), extra);
    } catch (const ArtifactError&) {
      throw;
    } catch (const std::exception& error) {
      throw ArtifactError(artifact.string() + " cannot be loaded: " + read_reason(error));
    }
    module_.eval();
    metadata_text_ = extra.at(kMetadataKey);
    const Metadata metadata = parse_metadata(metadata_text_, artifact.string());
    dtype_ = parse_dtype(metadata);
    has_boxes_ = metadata.has_boxes;
  }

  std::string metadata_text() const override { return metadata_text_; }

  Outputs run(const Image& image, const Classes& classes) const override {
    const c10::InferenceMode guard;  // this thread keeps no version counters and no autograd graph
    try {
      const std::vector<at::Tensor> inputs = make_inputs(image, classes, dtype_);
      const auto tuple = module_.forward({inputs[0], inputs[1]}).toTuple();
      std::vector<at::Tensor> outputs;
      for (const c10::IValue& element : tuple->elements()) outputs.push_back(element.toTensor());
      return copy_outputs(outputs, dtype_, has_boxes_);
    } catch (const ArtifactError&) {
      throw;
    } catch (const std::exception& error) {
      throw InputError("the artifact failed: " + read_reason(error));
    }
  }

 private:
  mutable torch::jit::Module module_;  // forward is not const, but several threads may call it
  std::string metadata_text_;
  at::ScalarType dtype_;
  bool has_boxes_ = false;
};

}  // namespace

std::unique_ptr<Runtime> open_torchscript(const std::filesystem::path& artifact, bool trusted) {
  return std::make_unique<TorchScript>(artifact, trusted);
}

}  // namespace explainable
