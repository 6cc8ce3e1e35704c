"""Sizes in a graph of OpenVINO, which computes constants while it compiles: a small file could fill the memory."""

import math
from typing import Any

from explainable_model.artifact.limits import MAX_CONSTANT
from explainable_model.exporters.guard.refusal import Refusal, shorten

MAX_TENSOR = 2**32  # values of any tensor, 16 GiB in float32


def check_sizes(model: Any, weights: int) -> None:
    """Check what each operator makes, from the sizes that OpenVINO has inferred.

    Args:
        model: as ``Core.read_model`` returns it, which computes sizes alone.
        weights: bytes of the file with the weights.

    Raises:
        Refusal: a constant takes more bytes than ``MAX_CONSTANT`` and than the weights, its size cannot be told, or
            another tensor of fixed size has more values than ``MAX_TENSOR``.
    """
    constant: set[str] = set()
    for node in model.get_ordered_ops():
        kind, sources = node.get_type_name(), [value.get_node().get_name() for value in node.input_values()]
        is_constant = kind == "ShapeOf" or (kind != "Parameter" and constant.issuperset(sources))
        if is_constant:
            constant.add(node.get_name())
        for output in node.outputs():
            _check_output(output, kind, is_constant, max(weights, MAX_CONSTANT))


def _check_output(output: Any, kind: str, is_constant: bool, most: int) -> None:
    sizes = output.get_partial_shape()
    if not sizes.is_static:
        if is_constant:
            raise Refusal(f"the layer {shorten(kind)} computes a constant whose size it does not tell")
        return
    values = math.prod(size.get_length() for size in sizes)
    held = values * output.get_element_type().size
    if (is_constant and held > most) or values > MAX_TENSOR:
        raise Refusal(f"the layer {shorten(kind)} makes {values} values")
