// Converts between libtorch's tensors and the kit's types.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <string>
#include <vector>

#include "explainer.hpp"

namespace explainable {

// The first line of libtorch's message, without the C++ and TorchScript frames below it.
std::string read_reason(const std::exception& error);

// The artifact's dtype. Throws ArtifactError where it is not a floating point type.
at::ScalarType parse_dtype(const Metadata& metadata);

// The tensors image and class_idx. They use the memory of their arguments, which must outlive them.
std::vector<at::Tensor> make_inputs(const Image& image, const Classes& classes, at::ScalarType dtype);

// Copies of logits, class_idx and cam, or of a detector's boxes, scores, labels, valid and cam. Throws ArtifactError where
// they have not the types that the artifact's metadata describe.
Outputs copy_outputs(const std::vector<at::Tensor>& tensors, at::ScalarType dtype, bool has_boxes);

}  // namespace explainable
