"""Replaces Triton's ONNX Runtime backend, which PyPI does not have, so that Triton's core can be tested.

Everything else is Triton: it reads config.pbtxt, speaks HTTP and gRPC, batches, and checks shapes and types.
"""

import os
from typing import Any

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the artifact in the repository."""
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request."""
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        """Give the request's tensors to ONNX Runtime unchanged."""
        names = [output.name for output in self.session.get_outputs()]
        given = {
            tensor.name: triton.get_input_tensor_by_name(request, tensor.name) for tensor in self.session.get_inputs()
        }
        results = self.session.run(names, {name: tensor.as_numpy() for name, tensor in given.items()})
        return triton.InferenceResponse(
            [triton.Tensor(name, array) for name, array in zip(names, results, strict=True)]
        )
