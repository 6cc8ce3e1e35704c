#include <ATen/Parallel.h>

#include "runtimes.hpp"

namespace explainable {

std::unique_ptr<Runtime> open_runtime(const std::filesystem::path& artifact, int threads) {
  if (threads > 0) at::set_num_threads(threads);  // of the whole process: libtorch has one pool
  const std::filesystem::path suffix = artifact.extension();
  if (suffix == ".ts" || suffix == ".pt") return open_torchscript(artifact);
  throw ArtifactError(artifact.string() + " has the suffix '" + suffix.string() +
                      "'; libtorch runs TorchScript: .ts or .pt.");
}

}  // namespace explainable
