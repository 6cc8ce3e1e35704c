"""Run the part of a graph that follows a tap once more, for several copies of each image."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from explainable_model.attribution.batching import repeat
from explainable_model.errors import LoweringError
from explainable_model.lowering.backward.interpreter import Environment, run_node
from explainable_model.lowering.backward.tail import Tail, dependent_nodes
from explainable_model.lowering.graph import layer_of, output_nodes
from explainable_model.lowering.shapes import unflatten

aten = torch.ops.aten


class CopiedValues(Mapping[fx.Node, Any]):
    """A graph's values for a batch in which every image stands several times, one after the other.

    Values that follow the taps are computed anew. Other values are repeated along their batch dimension when they are
    read; the sizes recorded in the graph tell which dimension that is. Sizes are computed again.

    Args:
        values: of one run of the graph.
        copies: how often each image stands in the new batch.
        replaced: new values for some nodes.
    """

    def __init__(self, values: Environment, copies: int, replaced: Mapping[fx.Node, Any]) -> None:
        self._values, self._copies = values, copies
        self._new: Environment = dict(replaced)

    def __getitem__(self, node: fx.Node) -> Any:
        if node not in self._new:
            self._new[node] = self._copy(node)
        return self._new[node]

    def __setitem__(self, node: fx.Node, value: Any) -> None:
        self._new[node] = value

    def __iter__(self) -> Iterator[fx.Node]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def _copy(self, node: fx.Node) -> Any:
        value = self._values[node]
        if node.op == "get_attr" or self._copies == 1:
            return value
        if node.op == "placeholder":
            return repeat(value, self._copies)
        if isinstance(value, Tensor) and self._depends_on_pixels(node):
            return self._repeat(node, value)
        if isinstance(value, (list, tuple)):
            return type(value)(
                self._repeat(node, part, index) if isinstance(part, Tensor) else part
                for index, part in enumerate(value)
            )
        return run_node(node, self, None, {})  # a size, or a tensor made from sizes alone

    def _depends_on_pixels(self, node: fx.Node) -> bool:
        """Whether a value depends on the image's pixels, and not on its size alone."""
        stack, seen = [node], {node}
        while stack:
            current = stack.pop()
            if current.op == "placeholder":
                return True
            for source in current.all_input_nodes:
                if source not in seen and current.target is not aten.sym_size.int:
                    seen.add(source)
                    stack.append(source)
        return False

    def _repeat(self, node: fx.Node, value: Tensor, index: int | None = None) -> Tensor:
        recorded = node.meta.get("val")
        like = recorded if index is None or recorded is None else recorded[index]
        open_dims = [d for d, size in enumerate(like.shape) if self._follows_batch(size)] if like is not None else [0]
        if not open_dims:
            return value
        if len(open_dims) > 1:
            raise LoweringError(
                f"Cannot repeat the output of {node.target} (from {layer_of(node) or 'the network itself'}), which "
                "runs beside the target layer and has more than one dimension that depends on the batch size. Choose "
                "a later layer."
            )
        if open_dims == [0] and like is not None and str(like.shape[0]) == str(self._image.meta["val"].shape[0]):
            return repeat(value, self._copies)  # each image has one part, so no grouping is needed
        return repeat_along(value, self._batch, self._copies, open_dims[0])

    def _follows_batch(self, size: Any) -> bool:
        """Whether a size that the graph recorded grows with the batch."""
        batch = self._image.meta["val"].shape[0]
        if isinstance(size, int) or isinstance(batch, int):
            return False
        return bool(size.node.expr.free_symbols & batch.node.expr.free_symbols)

    @property
    def _image(self) -> fx.Node:
        return next(node for node in self._values if node.op == "placeholder")

    @property
    def _batch(self) -> Any:
        return self._values[self._image].shape[0]


def repeat_along(tensor: Tensor, batch: Any, copies: int, dim: int) -> Tensor:
    """Repeat each image's part of a dimension whose size is the batch size times the number of parts of an image."""
    grouped = unflatten(tensor.movedim(dim, 0), 0, (batch, -1))
    copied = grouped.unsqueeze(1).expand(-1, copies, *[-1] * (grouped.ndim - 1))
    return copied.flatten(0, 2).movedim(0, dim)


def run_tail(tail: Tail, values: Environment, replaced: Mapping[fx.Node, Tensor], copies: int) -> CopiedValues:
    """Every value after the replaced ones, which hold each image's copies one after the other.

    Args:
        tail: of the graph.
        values: of one run of it.
        replaced: a new value ``(N * copies, ...)`` for some nodes of the path.
        copies: how many copies of each image.

    Raises:
        LoweringError: the graph is for one batch size, or a value has no single dimension to repeat along.
    """
    _refuse_fixed_batch(tail, copies)
    copied = CopiedValues(values, copies, replaced)
    class_idx = output_nodes(tail.output.graph)[1]  # the copies are scored for the class of their image
    for node in dependent_nodes(tail, {*replaced, class_idx}):
        copied[node] = run_node(node, copied, None, {})
    return copied


def copied_tail(tail: Tail, values: Environment, saved: Environment, copies: int) -> tuple[CopiedValues, Environment]:
    """The same values for several copies of each image: repeated, and computed again only where a node saves something.

    Arguments and errors are those of ``run_tail``; ``saved`` is what nodes saved for their gradient.

    Returns:
        The values, and what some nodes saved for their gradient.
    """
    _refuse_fixed_batch(tail, copies)
    copied = CopiedValues(values, copies, {})
    again: Environment = {}
    for node in tail.path:
        if node in saved:
            copied[node] = run_node(node, copied, again, {})
    return copied, again


def _refuse_fixed_batch(tail: Tail, copies: int) -> None:
    if copies > 1 and all(isinstance(size, int) for tap in tail.taps for size in tap.meta["val"].shape):
        raise LoweringError(
            "The network refuses an open batch size, so several copies of an image cannot run at once; explain one "
            "class at a time, with a method that needs no copies."
        )
