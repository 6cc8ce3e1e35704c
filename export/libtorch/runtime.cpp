#include <ATen/Parallel.h>

#include "guard.hpp"
#include "runtimes.hpp"

namespace explainable {

std::unique_ptr<Runtime> open_runtime(const std::filesystem::path& artifact, int threads, bool trusted) {
  if (threads > 0) at::set_num_threads(threads);  // for the whole process, which has one pool
  const std::filesystem::path suffix = artifact.extension();
  if (suffix == ".ts" || suffix == ".pt") return open_torchscript(artifact, trusted);
  if (suffix == ".pt2") {
    if (trusted) return open_aotinductor(artifact);
    throw ArtifactError(artifact.string() + " may hold machine code, which runs once it is opened." + kTrustHint);
  }
  throw ArtifactError(artifact.string() + " has the suffix '" + suffix.string() +
                      "'; libtorch runs TorchScript (.ts, .pt) and AOTInductor packages (.pt2).");
}

}  // namespace explainable
