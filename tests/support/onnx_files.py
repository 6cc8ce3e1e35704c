"""Small ONNX files, made node by node, and the same networks as modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional


class Small(nn.Module):
    """The network that ``small_model`` writes: an uneven padding, a norm, two grids and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.stem, self.norm = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6)
        self.conv, self.fc = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8, 5)
        self.norm.running_mean = torch.randn(6)
        self.norm.running_var = torch.rand(6) + 0.5
        self.act = nn.ReLU()
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        stem = functional.relu(self.norm(self.stem(functional.pad(image, (0, 1, 0, 1)))))
        return self.fc(self.act(self.conv(stem)).mean((2, 3)))


def small_nodes(image: str = "image") -> list[onnx.NodeProto]:
    """From the image to the logits."""
    make = helper.make_node
    return [
        make("Conv", [image, "stem.weight", "stem.bias"], ["s0"], name="/stem/Conv", strides=[2, 2], pads=[0, 0, 1, 1]),
        make("BatchNormalization", ["s0", *(f"norm.{n}" for n in NORM)], ["s1"], name="/norm/BatchNormalization"),
        make("Relu", ["s1"], ["s2"], name="/Relu"),
        make("Conv", ["s2", "conv.weight", "conv.bias"], ["s3"], name="/block/block.conv/Conv", pads=[1, 1, 1, 1]),
        make("Relu", ["s3"], ["features"], name="/block/block.act/Relu"),
        make("GlobalAveragePool", ["features"], ["s4"], name="/pool/GlobalAveragePool"),
        make("Flatten", ["s4"], ["s5"], name="/Flatten"),
        make("Gemm", ["s5", "fc.weight", "fc.bias"], ["logits"], name="/fc/Gemm", transB=1),
    ]


NORM = ("weight", "bias", "running_mean", "running_var")


def small_weights() -> list[onnx.TensorProto]:
    state = {name: value for name, value in Small().state_dict().items() if "num_batches" not in name}
    return [numpy_helper.from_array(value.numpy(), name) for name, value in state.items()]


def small_model(**options: Any) -> onnx.ModelProto:
    """The network as a graph; options as ``model_of``."""
    return model_of(small_nodes(), small_weights(), **options)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto] = (),
    shape: Sequence[Any] = ("N", 3, 16, 16),
    outputs: Sequence[str] = ("logits",),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    more: Sequence[onnx.ValueInfoProto] = (),
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("image", kind, list(shape)), *more]
    found = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "graph", inputs, found, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    return model


def save(model: onnx.ModelProto, folder: Path, name: str = "small.onnx", **options: Any) -> Path:
    path = folder / name
    onnx.save(model, str(path), **options)
    return path


def constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype=dtype), name)
