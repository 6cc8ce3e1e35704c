// Bounds the memory that calls of a TorchScript file take.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <memory>

namespace explainable {

// Checks that no list and no text of the code grows, since each step could double it. Throws Refusal.
void check_lists(const torch::jit::Module& module);

// The most bytes that the tensors of one call may take at once, for each image: 32 GiB, as in Python.
constexpr std::int64_t kMaxWork = std::int64_t{1} << 35;

// While it lives, tensors that this thread makes may take so many bytes at once; beyond them libtorch throws. The first one
// puts an allocator in front of libtorch's, which leaves the tensors of other threads alone.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::int64_t bytes);
  ~MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;

 private:
  std::shared_ptr<void> before_;
};

}  // namespace explainable
