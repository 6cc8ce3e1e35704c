#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <thread>

#include "runtimes.hpp"
#include "tensors.hpp"

namespace explainable {
namespace {

using Package = torch::inductor::AOTIModelPackageLoader;
constexpr const char* kModelName = "model";  // torch's name for the only model in a package

// As many copies of the compiled model's working memory as calls can run at once; they share the weights.
std::size_t runners() { return std::max(1u, std::thread::hardware_concurrency()); }

std::unique_ptr<Package> open_package(const std::string& artifact) {
  try {
    return std::make_unique<Package>(artifact, kModelName, /*run_single_threaded=*/false, runners());
  } catch (const std::exception& error) {
    throw ArtifactError(artifact + " cannot be loaded as an AOTInductor package: " + reason(error) +
                        " (A .pt2 of the format torch.export runs in Python alone.)");
  }
}

class AotInductor : public Runtime {
 public:
  explicit AotInductor(const std::string& artifact) : package_(open_package(artifact)) {
    metadata_text_ = package_->get_metadata()[kMetadataKey];
    dtype_ = dtype_of(parse_metadata(metadata_text_, artifact));
  }

  std::string metadata_text() const override { return metadata_text_; }

  // The compiled code checks nothing by itself: shapes and classes have been checked before.
  Outputs run(const Image& image, const Classes& classes) const override {
    const c10::InferenceMode guard;
    try {
      return outputs_of(package_->run(inputs_of(image, classes, dtype_)));
    } catch (const std::exception& error) {
      throw InputError("the artifact failed: " + reason(error));
    }
  }

 private:
  std::unique_ptr<Package> package_;
  std::string metadata_text_;
  at::ScalarType dtype_;
};

}  // namespace

std::unique_ptr<Runtime> open_aotinductor(const std::filesystem::path& artifact) {
  return std::make_unique<AotInductor>(artifact.string());
}

}  // namespace explainable
