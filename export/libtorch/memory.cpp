#include "memory.hpp"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/ir/ir.h>

#include <atomic>
#include <mutex>
#include <utility>

#include "guard_pickle.hpp"

namespace explainable {
namespace {

using Left = std::shared_ptr<std::atomic<std::int64_t>>;

thread_local Left bytes_left;  // of this thread's tensors; null for any amount

class BoundedAllocator final : public c10::Allocator {
 public:
  explicit BoundedAllocator(c10::Allocator* base) : base_(base) {}

  c10::DataPtr allocate(std::size_t size) override {
    const Left left = bytes_left;
    if (!left) return base_->allocate(size);
    const auto wanted = static_cast<std::int64_t>(size);
    TORCH_CHECK(wanted >= 0 && wanted <= left->load(), "a call takes more memory than an artifact may");
    auto memory = std::make_shared<c10::DataPtr>(base_->allocate(size));
    *left -= wanted;
    void* data = memory->get();
    const c10::Device device = memory->device();
    return c10::InefficientStdFunctionContext::makeDataPtr(
        data, [left, wanted, memory](void*) { *left += wanted; }, device);
  }

  void copy_data(void* target, const void* source, std::size_t count) const override {
    default_copy_data(target, source, count);
  }

 private:
  c10::Allocator* base_;
};

bool grows(const torch::jit::Node& node) {
  const auto kind = node.kind();
  if (kind != c10::aten::add && kind != c10::aten::add_ && kind != c10::aten::mul && kind != c10::aten::mul_) {
    return false;
  }
  for (const torch::jit::Value* output : node.outputs()) {
    const auto type = output->type()->kind();
    if (type == c10::TypeKind::ListType || type == c10::TypeKind::StringType) return true;
  }
  return false;
}

bool writes_text_into_text(const torch::jit::Node& node) {
  if (node.kind() != c10::aten::format) return false;
  const auto inputs = node.inputs();
  const auto source = inputs.at(0)->node()->kind();
  if (source != c10::prim::Constant && source != c10::prim::GetAttr) return true;
  for (std::size_t n = 1; n < inputs.size(); ++n) {
    if (inputs[n]->type()->kind() == c10::TypeKind::StringType) return true;
  }
  return false;
}

void check_block(const torch::jit::Block& block) {
  for (const torch::jit::Node* node : block.nodes()) {
    if (grows(*node)) throw Refusal("its code joins or repeats lists");
    if (writes_text_into_text(*node)) throw Refusal("its code writes a text into a text");
    for (const torch::jit::Block* inner : node->blocks()) check_block(*inner);
  }
}

}  // namespace

void check_lists(const torch::jit::Module& module) {
  for (const torch::jit::Module& part : module.modules()) {
    for (const torch::jit::Method& method : part.get_methods()) check_block(*method.graph()->block());
  }
}

MemoryLimit::MemoryLimit(std::int64_t bytes) : before_(bytes_left) {
  static std::once_flag once;
  std::call_once(once, [] {  // it must live as long as the last tensor
    c10::SetCPUAllocator(new BoundedAllocator(c10::GetCPUAllocator()), /*priority=*/100);
  });
  bytes_left = std::make_shared<std::atomic<std::int64_t>>(bytes);
}

MemoryLimit::~MemoryLimit() { bytes_left = std::static_pointer_cast<std::atomic<std::int64_t>>(before_); }

}  // namespace explainable
