#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <thread>

#include "runtimes.hpp"
#include "tensors.hpp"

namespace explainable {
namespace {

using Package = torch::inductor::AOTIModelPackageLoader;
constexpr const char* kModelName = "model";  // PyTorch's name for the only model in a package

// The number of calls that can run at once. Each has its own working memory; all share the weights.
std::size_t count_runners() { return std::max(1u, std::thread::hardware_concurrency()); }

std::unique_ptr<Package> open_package(const std::string& artifact) {
  try {
    return std::make_unique<Package>(artifact, kModelName, /*run_single_threaded=*/false, count_runners());
  } catch (const std::exception& error) {
    throw ArtifactError(artifact + " cannot be loaded as an AOTInductor package: " + read_reason(error) +
                        " (A .pt2 of torch.export runs in Python only.)");
  }
}

class AotInductor : public Runtime {
 public:
  explicit AotInductor(const std::string& artifact) : package_(open_package(artifact)) {
    metadata_text_ = package_->get_metadata()[kMetadataKey];
    const Metadata metadata = parse_metadata(metadata_text_, artifact);
    dtype_ = parse_dtype(metadata);
    has_boxes_ = metadata.has_boxes;
  }

  std::string metadata_text() const override { return metadata_text_; }

  // The compiled code checks nothing; the caller has checked shapes and classes.
  Outputs run(const Image& image, const Classes& classes) const override {
    const c10::InferenceMode guard;
    try {
      return copy_outputs(package_->run(make_inputs(image, classes, dtype_)), dtype_, has_boxes_);
    } catch (const ArtifactError&) {
      throw;
    } catch (const std::exception& error) {
      throw InputError("the artifact failed: " + read_reason(error));
    }
  }

 private:
  std::unique_ptr<Package> package_;
  std::string metadata_text_;
  at::ScalarType dtype_;
  bool has_boxes_ = false;
};

}  // namespace

std::unique_ptr<Runtime> open_aotinductor(const std::filesystem::path& artifact) {
  return std::make_unique<AotInductor>(artifact.string());
}

}  // namespace explainable
