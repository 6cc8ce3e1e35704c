"""Count the cost of an explanation instead of timing it: floating point operations, operators, bytes.

The counts are the same on every machine, however busy. The floor is the least that autograd computes: one forward, and
the backward from the score to the layer, with respect to activations alone.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from explainable_model import ExplainableModel

OPSET = 18
# Operators that walk through memory index by index. Predicting and explaining needs none.
SLOW_OPERATORS = frozenset({"GatherND", "GatherElements", "Scatter", "ScatterElements", "ScatterND", "Loop", "If"})
SMALL = 64  # equal constants of fewer elements are a coincidence (shapes, scales)


def count_flops(run: Callable[[], object]) -> int:
    """Count the floating point operations of convolutions, matrix products and attention in one call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def compare_flops(explained: Callable[[], object], model: nn.Module, image: Tensor) -> float:
    """The FLOPs of an explanation over those of the plain forward."""
    with torch.no_grad():
        return count_flops(explained) / count_flops(lambda: model(image))


def compute_floor(explainable: ExplainableModel, image: Tensor) -> float:
    """The least that an explanation at this layer can cost, in forwards of the network."""
    return compare_flops(lambda: explainable(image), explainable.model, image)


@dataclass(frozen=True)
class OnnxGraph:
    """The counts of an ONNX file.

    Attributes:
        operators: the number of nodes of each type.
        size: the size of the file in bytes.
        repeated: names of weights that are stored more than once.
    """

    operators: Counter[str]
    size: int
    repeated: list[str]

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return self.operators.total()

    @property
    def slow(self) -> list[str]:
        """The types of slow operators in the graph."""
        return sorted(SLOW_OPERATORS & self.operators.keys())


def read_onnx(path: Path) -> OnnxGraph:
    """Count the nodes, bytes and repeated weights of a file."""
    import onnx

    model: Any = onnx.load(path)
    names = defaultdict(list)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.size > SMALL:
            names[hashlib.sha256(values.tobytes()).hexdigest()].append(tensor.name)
    repeated = [", ".join(each) for each in names.values() if len(each) > 1]
    return OnnxGraph(Counter(node.op_type for node in model.graph.node), path.stat().st_size, repeated)


def write_plain_onnx(model: nn.Module, image: Tensor, path: Path) -> None:
    """Write the network without its explanation, as PyTorch exports it, with an open batch size."""
    batch = image if len(image) > 1 else torch.cat([image, image])
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(
        model, (batch,), input_names=["image"], output_names=["logits"], dynamic_shapes=shapes, opset_version=OPSET,
        dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(path)
