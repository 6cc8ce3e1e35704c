"""The layer of a node that is no layer of ``torch.nn``."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.values import Value, is_numbers

FLOATS = {torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64}


class OnnxNode(nn.Module):
    """Calls an operator with what the graph computes and with its own constants.

    Attributes:
        passive: whether it only repeats, pools or rearranges what another layer made; such a layer is never the
            automatic choice.
    """

    def __init__(self, call: Call, operator: Operator, inputs: Sequence[Value], flows: Sequence[bool]) -> None:
        super().__init__()
        self.call, self.operator = call, operator
        self.passive = operator.passive
        self._own: list[tuple[str, Any]] = []
        for position, (value, flow) in enumerate(zip(inputs, flows, strict=True)):
            if flow:
                self._own.append(("flow", None))
                continue
            value = as_number(value, operator, position)
            if not isinstance(value, Tensor):
                self._own.append(("value", value))
                continue
            name = f"input{position}"
            if value.is_floating_point():
                self.register_parameter(name, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(name, value)
            self._own.append(("state", name))

    def forward(self, *flow: Value) -> Any:
        values = iter(flow)
        inputs = [
            next(values) if kind == "flow" else getattr(self, own) if kind == "state" else own
            for kind, own in self._own
        ]
        return self.operator.run(self.call, *inputs)

    def extra_repr(self) -> str:
        return ", ".join(
            f"{name}={value}" for name, value in self.call.attributes.items() if not isinstance(value, Tensor)
        )


def as_number(value: Value, operator: Operator, position: int) -> Value:
    """A constant as numbers where the operator reads it so."""
    if not isinstance(value, Tensor):
        return value
    is_scalar = operator.scalars and value.numel() == 1 and value.dtype in FLOATS
    if position in operator.numbers or is_scalar:
        return value.numpy() if value.dtype != torch.bfloat16 else value.float().numpy()
    return value


@cache
def node_class(name: str) -> type[OnnxNode]:
    """The class of a layer, which is named as its operator."""
    return type(name, (OnnxNode,), {"__module__": __name__, "__doc__": f"The operator {name} of ONNX."})


def counts_as_numbers(values: Sequence[Value]) -> bool:
    """Whether every value is an array of numbers, or left out."""
    return all(value is None or is_numbers(value) for value in values)
