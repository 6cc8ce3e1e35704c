"""What an explanation costs, counted instead of timed: floating point operations, operators, bytes.

Counts are the same on every machine, however busy. The floor is what autograd computes at the least: one forward, and
the backward of what follows the layer, with respect to activations alone.
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
# Operators that walk through memory index by index; predicting and explaining needs none.
SLOW_OPERATORS = frozenset({"GatherND", "GatherElements", "Scatter", "ScatterElements", "ScatterND", "Loop", "If"})
SMALL = 64  # elements below which equal constants are a coincidence (shapes, scales)


def count_flops(run: Callable[[], object]) -> int:
    """Floating point operations of the convolutions, matrix products and attentions in one call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def flops_ratio(explained: Callable[[], object], model: nn.Module, image: Tensor) -> float:
    """FLOPs of an explanation over those of the plain forward; of the eager wrapper, this is the floor."""
    with torch.no_grad():
        return count_flops(explained) / count_flops(lambda: model(image))


def floor(explainable: ExplainableModel, image: Tensor) -> float:
    """The least that an explanation at this layer can cost, in forwards of the network."""
    return flops_ratio(lambda: explainable(image), explainable.model, image)


@dataclass(frozen=True)
class OnnxGraph:
    """What is counted of an ONNX file.

    Attributes:
        operators: how many nodes there are of each type.
        size: of the file, in bytes.
        repeated: names of weights that are stored more than once.
    """

    operators: Counter[str]
    size: int
    repeated: list[str]

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return self.operators.total()

    @property
    def slow(self) -> list[str]:
        """Types of operators that are among the slow ones."""
        return sorted(SLOW_OPERATORS & self.operators.keys())


def read_onnx(path: Path) -> OnnxGraph:
    """Count what is in a file."""
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
    """The network without its explanation, as PyTorch exports it, with an open batch size."""
    batch = image if len(image) > 1 else torch.cat([image, image])
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(
        model, (batch,), input_names=["image"], output_names=["logits"], dynamic_shapes=shapes, opset_version=OPSET,
        dynamo=True, verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(path)
