"""One call of an operator, and a row of the table of operators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from explainable_model.networks.onnx.values import Value


@dataclass(frozen=True)
class Call:
    """What a node of the graph says besides its inputs.

    Attributes:
        operator: its type, such as ``Conv``.
        name: of the node.
        opset: version of the operator set.
        outputs: how many outputs it has.
        attributes: strings as ``str``, tensors as ``torch.Tensor``.
        batch: the only batch size that the file allows, where the reader opens it; ``None`` where it is open.
    """

    operator: str
    name: str
    opset: int
    outputs: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)
    batch: int | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or the default where the node does not have it."""
        return self.attributes.get(name, default)


Run = Callable[..., Any]
"""``(call, *inputs) -> output``, or a tuple of outputs; missing inputs are ``None``."""

Build = Callable[[Call, Sequence[Value]], nn.Module | None]
"""Makes a layer of ``torch.nn`` from a call and its inputs: constants, and ``None`` for what the graph computes."""


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    Attributes:
        run: computes the outputs.
        numbers: positions of the inputs that are read as numbers, such as shapes.
        scalars: whether constants of one element are read as numbers.
        build: makes a layer of ``torch.nn`` where the constants allow it.
        passive: whether the operator only repeats, pools or rearranges what others made.
        shows: the class name of its layer, where it is not the operator's.
    """

    run: Run
    numbers: tuple[int, ...] = ()
    scalars: bool = False
    build: Build | None = None
    passive: bool = False
    shows: str | None = None
