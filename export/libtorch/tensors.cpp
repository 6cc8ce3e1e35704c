#include "tensors.hpp"

#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <map>

namespace explainable {
namespace {

template <typename T>
std::vector<T> copy_values(const at::Tensor& tensor, at::ScalarType dtype) {
  const at::Tensor plain = tensor.to(dtype).contiguous();
  return {plain.const_data_ptr<T>(), plain.const_data_ptr<T>() + plain.numel()};
}

}  // namespace

std::string read_reason(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch_error ? torch_error->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

at::ScalarType parse_dtype(const Metadata& metadata) {
  static const std::map<std::string, at::ScalarType> known = {
      {"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16}};
  const auto found = known.find(metadata.dtype);
  if (found != known.end()) return found->second;
  throw ArtifactError("The artifact takes images of " + metadata.dtype + "; this program makes floating point images.");
}

std::vector<at::Tensor> make_inputs(const Image& image, const Classes& classes, at::ScalarType dtype) {
  // from_blob takes mutable pointers; an artifact does not write to its inputs.
  auto* class_idx = const_cast<std::int64_t*>(classes.values.data());
  const at::Tensor asked = at::from_blob(class_idx, classes.shape, at::kLong);
  if (!image.levels.empty()) {
    return {at::from_blob(const_cast<std::uint8_t*>(image.levels.data()), image.shape, at::kByte), asked};
  }
  return {at::from_blob(const_cast<float*>(image.values.data()), image.shape, at::kFloat).to(dtype), asked};
}

Outputs copy_outputs(const std::vector<at::Tensor>& tensors, at::ScalarType dtype, bool has_boxes) {
  const std::vector<at::ScalarType> expected =
      has_boxes ? std::vector{dtype, dtype, at::kLong, at::kBool, dtype} : std::vector{dtype, at::kLong, dtype};
  bool fit = tensors.size() >= expected.size();
  for (std::size_t n = 0; fit && n < expected.size(); ++n) fit = tensors[n].scalar_type() == expected[n];
  if (!fit) throw ArtifactError("The artifact's outputs have not the number and types that its metadata describes.");
  if (has_boxes) {
    const at::Tensor &boxes = tensors[0], &maps = tensors[4];
    return {boxes.sizes().vec(), copy_values<float>(boxes, at::kFloat), copy_values<std::int64_t>(tensors[2], at::kLong),
            maps.sizes().vec(), copy_values<float>(maps, at::kFloat), copy_values<float>(tensors[1], at::kFloat),
            copy_values<std::uint8_t>(tensors[3], at::kByte)};
  }
  const at::Tensor &logits = tensors[0], &class_idx = tensors[1], &cam = tensors[2];
  return {logits.sizes().vec(), copy_values<float>(logits, at::kFloat), copy_values<std::int64_t>(class_idx, at::kLong),
          cam.sizes().vec(), copy_values<float>(cam, at::kFloat)};
}

}  // namespace explainable
