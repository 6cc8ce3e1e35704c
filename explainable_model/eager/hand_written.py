"""Recognizes a softmax, log-softmax or sigmoid that is written by hand, in autograd's graph."""

from typing import Any, TypeAlias

from torch import Tensor

Edge: TypeAlias = tuple[Any, int]  # a node, and which of its outputs

VIEWS = ("UnsqueezeBackward", "ViewBackward", "ExpandBackward", "ClampMinBackward", "ClampBackward")
TRANSPOSES = ("TBackward", "PermuteBackward", "TransposeBackward")
INVERSES = ("ReciprocalBackward", "PowBackward")


def _kind(node: Any) -> str:
    return "" if node is None else str(node.name()).rstrip("0123456789")


def _behind(edge: Edge, kinds: tuple[str, ...]) -> Edge:
    while _kind(edge[0]) in kinds:
        edge = edge[0].next_functions[0]
    return edge


def _signed(dims: Any) -> list[int]:
    return [dim - 2**64 if dim >= 2**63 else dim for dim in (dims if isinstance(dims, (tuple, list)) else [dims])]


def total_dims(edge: Edge, summed: Edge, ndim: int, *, inverted: bool = False) -> list[int] | None:
    """The dimensions over which an edge is the sum of another, or the inverse of that sum; ``None`` for no sum.

    Args:
        edge: what may be the sum.
        summed: what may be summed.
        ndim: how many dimensions it has.
        inverted: look for the inverse of the sum.
    """
    edge = _behind(edge, VIEWS)
    if inverted:
        if _kind(edge[0]) not in INVERSES or getattr(edge[0], "_saved_exponent", -1) != -1:
            return None
        edge = _behind(edge[0].next_functions[0], VIEWS)
    node = edge[0]
    is_norm = _kind(node) == "LinalgVectorNormBackward" and node._saved_ord == 1
    if (_kind(node) != "SumBackward" and not is_norm) or getattr(node, "_saved_dim", None) is None:
        return None
    dims, source = _signed(node._saved_dim), node.next_functions[0]
    if _is_same(source, summed):
        return dims
    if _kind(summed[0]) in TRANSPOSES and ndim == 2 and _is_same(source, summed[0].next_functions[0]):
        return [1 - dim % 2 for dim in dims]
    return None


def _is_same(one: Edge, other: Edge) -> bool:
    """Whether two edges are one value: the same, or computed twice in the same way and passed to an exponential."""
    if one == other:
        return True
    nodes = (one[0], other[0])
    if any(_kind(node) != "ExpBackward" for node in nodes):
        return False
    first, second = (node._saved_result.detach() for node in nodes)
    return first.shape == second.shape and bool((first == second).all()) and _is_alike(one[0], other[0])


def _is_alike(one: Any, other: Any) -> bool:
    """Whether two nodes are the same operators on the same values."""
    if one is other or one is None or other is None:
        return one is other
    sources = list(zip(one.next_functions, other.next_functions, strict=False))
    return (
        one.name() == other.name()
        and len(one.next_functions) == len(other.next_functions) > 0
        and all(a[1] == b[1] and _is_alike(a[0], b[0]) for a, b in sources)
    )


def added_constant(edge: Edge, part: Edge) -> bool:
    """Whether an edge is another one plus a constant."""
    if _kind(edge[0]) != "AddBackward":
        return False
    sources = edge[0].next_functions
    others = [source for source in sources if source[0] is None or not _is_same(source, part)]
    return len(others) == len(sources) - 1 and all(node is None for node, _ in others)


def log_sum_source(edge: Edge, source: Edge) -> tuple[Tensor, int] | None:
    """The log-softmax ``x - log(sum(exp(x)))`` and its dimension, where an edge is that logarithm of another."""
    node = _behind(edge, VIEWS)[0]
    if _kind(node) == "LogsumexpBackward":
        dims = _signed(node._saved_dim)
        if node.next_functions[0] != source or len(dims) != 1:
            return None
        total = node._saved_result.detach()
        total = total if node._saved_keepdim else total.unsqueeze(dims[0])
        return node._saved_self.detach() - total, dims[0]
    if _kind(node) != "LogBackward" or _kind(node.next_functions[0][0]) != "SumBackward":
        return None
    summed = node.next_functions[0][0]
    power = summed.next_functions[0][0]
    dims = _signed(getattr(summed, "_saved_dim", None) or ())
    if _kind(power) != "ExpBackward" or power.next_functions[0] != source or len(dims) != 1:
        return None
    total = node._saved_self.detach()
    total = total if summed._saved_keepdim else total.unsqueeze(dims[0])
    return (power._saved_result.detach() / total).log(), dims[0]
