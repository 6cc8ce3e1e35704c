"""The operators that a network's output ends with, read from a graph of any kind."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx

from explainable_model.explanation import OutputKind
from explainable_model.lowering.graph import operator_name, value_of

LAYERS = (
    "conv", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum", "bilinear", "embedding", "attention",
    "norm", "lstm", "gru", "rnn", "cosine_similarity",
)  # fmt: skip
"""Parts of the names of operators that have weights; the search for the last activation ends there."""

PROBABILITIES = ("softmax", "safe_softmax", "sigmoid", "hardsigmoid")
LENGTHS = {"linalg_vector_norm", "norm", "frobenius_norm"}
DISTANCES = {"cdist", "cdist_forward", "euclidean_dist", *LENGTHS}
WITHOUT_BIAS = {"linear", "mm", "bmm", "matmul", "einsum"}  # a linear layer with a bias is "addmm" here

OPAQUE = "custom function"
"""The name of a ``torch.autograd.Function`` of the user's, which may be any operator."""

# Operators that keep, move or copy the values of what they are given.
PASSIVE = {
    "view", "unsafe_view", "reshape", "reshape_alias", "permute", "transpose", "t", "numpy_t", "squeeze", "unsqueeze",
    "expand", "expand_as", "view_as", "type_as", "unflatten", "movedim", "clone", "alias", "contiguous", "to_copy",
    "to", "slice", "select", "flatten", "dropout", "cat", "tap",
}  # fmt: skip
# Operators between the sum of squares and the divisor of a normalization.
OF_DIVISOR = PASSIVE | {"clamp_min", "clamp", "maximum", "add", "sqrt", "rsqrt", "reciprocal", "pow"}


@dataclass(frozen=True)
class Step:
    """One operator.

    Attributes:
        name: as ATen calls it, without a leading underscore.
        sources: nodes of what it is given, as far as the image reaches them.
        classes: length of its result along dimension 1; ``None`` where that is not known.
        is_layer: whether the search ends here, as behind a layer with weights.
    """

    name: str
    sources: Sequence[Any] = ()
    classes: int | None = None
    is_layer: bool = False


Read = Callable[[Any], Step | None]
"""Reads a node; ``None`` for one that holds no number that the image reaches."""


@dataclass(frozen=True)
class OutputEnding:
    """The operators between the last layers with weights and the output.

    Attributes:
        activations: the first activations that make probabilities on the ways back from the output.
        passed: names of all other operators on these ways, each with the names of those between it and the output.
        raw: whether a way leads to a layer without passing such an activation.
        cosine: names of the operators between the output and cosines of angles; ``None`` where there are none.
        is_shifted: whether every class is one number plus a number of its own, as of ordered classes.
        declared: the kind of values without activation that the network or the target tells.
    """

    activations: frozenset[str]
    passed: dict[str, frozenset[str]]
    raw: bool
    cosine: frozenset[str] | None = None
    is_shifted: bool = False
    declared: OutputKind | None = None


def is_layer(name: str) -> bool:
    """Whether the name of an operator tells that it has weights."""
    return name not in LENGTHS and any(layer in name for layer in LAYERS)


def walk_back(output: Any, read: Read) -> OutputEnding:
    """Walk back from the node of the prediction to the last layers with weights, along what the image reaches."""
    activations: set[str] = set()
    passed: dict[str, frozenset[str]] = {}
    raw, cosine, is_shifted = False, None, False
    stack, seen = [(output, frozenset[str]())], set[Any]()
    while stack:
        node, above = stack.pop()
        step = read(node)
        if node in seen or step is None:
            continue
        seen.add(node)
        if cosine is None and _makes_cosines(step, read):
            cosine = above
        is_shifted |= above <= PASSIVE and _shifts_one_number(step, read)
        if step.name in PROBABILITIES:
            activations.add(step.name)
        elif step.is_layer:
            raw = True
        else:
            passed[step.name] = passed.get(step.name, frozenset()) | above
            stack += [(source, above | {step.name}) for source in step.sources]
    return OutputEnding(frozenset(activations), passed, raw, cosine, is_shifted)


def _makes_cosines(step: Step, read: Read) -> bool:
    """Whether an operator multiplies vectors of length one, or divides by a length."""
    if step.name == "cosine_similarity" or _has_length_one(step, read):
        return True
    if step.name == "sum":
        products = [inner for inner in _given(step, read) if inner.name == "mul"]
        return any(_has_length_one(inner, read) for product in products for inner in _given(product, read))
    return step.name in WITHOUT_BIAS and any(_has_length_one(inner, read) for inner in _given(step, read))


def _has_length_one(step: Step, read: Read) -> bool:
    return step.name in ("div", "mul") and any(_is_length(source, read) for source in step.sources)


def _is_length(node: Any, read: Read) -> bool:
    """Whether a node is a length, or one divided by it."""
    has_root = False
    while (step := read(node)) is not None:
        if step.name in LENGTHS:
            return True
        if step.name == "sum":
            return has_root and any(inner.name in ("pow", "square", "mul") for inner in _given(step, read))
        has_root |= step.name in ("sqrt", "rsqrt", "pow")
        if step.name not in OF_DIVISOR or len(step.sources) != 1:
            return False
        node = step.sources[0]
    return False


def _given(step: Step, read: Read) -> Iterator[Step]:
    """The operators that made what an operator is given, behind those that only move values."""
    for source in step.sources:
        inner = read(source)
        if inner is not None and inner.name in PASSIVE:
            yield from _given(inner, read)
        elif inner is not None:
            yield inner


def _shifts_one_number(step: Step, read: Read) -> bool:
    """Whether an operator adds several numbers to a single one that the image gives."""
    if step.name not in ("add", "sub", "rsub") or step.classes in (None, 1):
        return False
    counts = [inner.classes for source in step.sources if (inner := _before_copies(source, read)) is not None]
    return bool(counts) and all(count == 1 for count in counts)


def _before_copies(node: Any, read: Read) -> Step | None:
    step = read(node)
    while step is not None and step.name in ("expand", "repeat") and len(step.sources) == 1:
        step = read(step.sources[0])
    return step


def find_ending(logits: fx.Node) -> OutputEnding:
    """The ending of a captured graph.

    Args:
        logits: the prediction, in a graph whose first input is the image.
    """
    of_image = _reached(next(node for node in logits.graph.nodes if node.op == "placeholder"))

    def read(node: fx.Node) -> Step | None:
        value = value_of(node)
        if node not in of_image or value is None or not value.is_floating_point():
            return None
        name = operator_name(node)
        if name == "linear" and len(node.args) > 2 and node.args[2] is not None:
            name = "addmm"
        classes = value.shape[1] if value.ndim > 1 else None
        known = classes if isinstance(classes, int) else None
        given = node.all_input_nodes[:1] if name.endswith("_as") else node.all_input_nodes
        sources = [source for source in given if source in of_image]
        return Step(name, sources, known, node.op != "call_function" or is_layer(name))

    return walk_back(logits, read)


def _reached(start: fx.Node) -> set[fx.Node]:
    reached, stack = set[fx.Node](), [start]
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack += node.users
    return reached
