// Between libtorch's tensors and the kit's own types.
#pragma once

#include <ATen/core/Tensor.h>

#include <exception>
#include <string>
#include <vector>

#include "explainer.hpp"

namespace explainable {

// libtorch's message without the page of C++ and TorchScript frames around it.
std::string reason(const std::exception& error);

// What the artifact computes in. Throws ArtifactError where the image is not of floating point.
at::ScalarType dtype_of(const Metadata& metadata);

// Image and class_idx; tensors over the memory of their arguments, which must outlive them.
std::vector<at::Tensor> inputs_of(const Image& image, const Classes& classes, at::ScalarType dtype);

// Copies of logits, class_idx and cam.
Outputs outputs_of(const std::vector<at::Tensor>& tensors);

}  // namespace explainable
