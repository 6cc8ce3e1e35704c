"""Sizes in a graph of OpenVINO, which computes constants while it compiles: a small file could fill the memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from explainable_model.artifact.limits import MAX_CONSTANT, MAX_WORK
from explainable_model.exporters.guard.refusal import Refusal, shorten

UNBOUNDED = -1  # the largest length of a dimension that has none
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
        is_constant = is_constant and not _reads_open_size(node)
        if is_constant:
            constant.add(node.get_name())
        for output in node.outputs():
            _check_output(output, kind, is_constant, max(weights, MAX_CONSTANT))


def check_call(model: Any, shapes: Mapping[str, Sequence[int]]) -> None:
    """Check what a call on inputs of these shapes makes.

    OpenVINO infers the size of every result, or its bound. A size that follows from the values of an image has none.

    Args:
        model: as ``Core.read_model`` returns it.
        shapes: of the inputs, by their names.

    Raises:
        Refusal: the results that live at the same time take more than ``MAX_WORK`` bytes, or nothing tells how much.
    """
    sized = model.clone()
    try:
        sized.reshape({name: list(shape) for name, shape in shapes.items()})
    except RuntimeError:  # the call fails too
        return
    nodes = sized.get_ordered_ops()
    last = {value.get_node().get_name(): place for place, node in enumerate(nodes) for value in node.input_values()}
    held: dict[str, int] = {}
    for place, node in enumerate(nodes):
        if node.get_type_name() not in ("Constant", "Parameter"):
            held[node.get_name()] = sum(_count_bytes(output, node.get_type_name()) for output in node.outputs())
        if sum(held.values()) > MAX_WORK:
            raise Refusal(f"a call on one image would take {sum(held.values()) / 2**30:.0f} GiB of memory")
        for value in node.input_values():
            name = value.get_node().get_name()
            if last[name] == place:
                held.pop(name, None)


def _count_bytes(output: Any, kind: str) -> int:
    sizes = output.get_partial_shape()
    longest = [UNBOUNDED] if sizes.rank.is_dynamic else [size.get_max_length() for size in sizes]
    if UNBOUNDED in longest:
        raise Refusal(f"nothing tells how much the layer {shorten(kind)} makes of an image")
    return int(math.prod(longest) * output.get_element_type().size)


def _reads_open_size(node: Any) -> bool:
    """Whether an operator picks open sizes alone of a tensor's shape, which nothing knows before a call."""
    if node.get_type_name() not in ("Gather", "Slice"):
        return False
    shape, *picked = [value.get_node() for value in node.input_values()]
    if shape.get_type_name() != "ShapeOf" or any(each.get_type_name() != "Constant" for each in picked):
        return False
    sizes, numbers = shape.input(0).get_partial_shape(), [each.get_data().reshape(-1) for each in picked]
    if sizes.rank.is_dynamic or any(len(each) != 1 for each in numbers):
        return False
    first, *others = [int(each[0]) for each in numbers]
    places = list(range(len(sizes)))
    if node.get_type_name() == "Slice":
        places = places[first : others[0] : others[1]] if others[1] else []
    else:
        places = [place for place in places if place == first % len(sizes)]
    return bool(places) and all(sizes[place].is_dynamic for place in places)


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
