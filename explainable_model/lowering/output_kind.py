"""Finds how a network's output is to be read as probabilities, from its graph and its answer to the example."""

from dataclasses import dataclass

import torch
from torch import Tensor, fx

from explainable_model.explanation import OutputKind
from explainable_model.lowering.graph import value_of

LAYERS = (
    "conv", "linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum", "bilinear", "embedding", "attention",
    "norm", "lstm", "gru", "rnn",
)  # fmt: skip
"""Parts of the names of operators that have weights; the search for the last activation ends there."""

PROBABILITIES = ("softmax", "_softmax", "_safe_softmax", "sigmoid", "hardsigmoid")
BY_HAND = ({"exp", "reciprocal"}, {"exp", "div"}, {"tanh"})
"""Operators that a sigmoid is written with where no operator of that name is used."""

POSITIVE = {"relu", "softplus", "abs", "exp", "pow", "square"}
"""Operators that end a count, an age or a density: of one logit they would leave the half that says yes."""

EVIDENCE = {
    "softplus"
}  # of several classes, as parameters of a Dirichlet distribution; a rectified map is averaged, too
DISTANCES = {"cdist", "_cdist_forward", "cdistforward", "_euclidean_dist", "euclideandist"}
TURNED = {"neg", "mul", "sub", "rsub", "div", "exp", "reciprocal"}  # which make the nearest class the largest

TOLERANCE = 1e-2  # float16 and bfloat16 probabilities do not sum to exactly one


@dataclass(frozen=True)
class OutputEnding:
    """The operators between the last layers with weights and the output.

    Attributes:
        activations: the first activations that make probabilities on the ways back from the output.
        passed: names of all other operators on these ways.
        raw: whether a way leads to a layer without passing such an activation.
    """

    activations: frozenset[str]
    passed: frozenset[str]
    raw: bool


def find_ending(logits: fx.Node) -> OutputEnding:
    """Walk back from the node of the prediction to the last layers with weights, along what the image reaches.

    Args:
        logits: the prediction, in a graph whose first input is the image.
    """
    of_image = _reached(next(node for node in logits.graph.nodes if node.op == "placeholder"))
    activations: set[str] = set()
    passed: set[str] = set()
    raw, stack, seen = False, [logits], set[fx.Node]()
    while stack:
        node = stack.pop()
        value = value_of(node)
        if node in seen or node not in of_image or value is None or not value.is_floating_point():
            continue
        seen.add(node)
        name = str(node.target).split(".")[1] if node.op == "call_function" and "." in str(node.target) else ""
        if name in PROBABILITIES:
            activations.add(name)
        elif node.op != "call_function" or any(layer in name for layer in LAYERS):
            raw = True
        else:
            passed.add(name)
            stack += node.all_input_nodes
    return OutputEnding(frozenset(activations), frozenset(passed), raw)


def _reached(start: fx.Node) -> set[fx.Node]:
    reached, stack = set[fx.Node](), [start]
    while stack:
        node = stack.pop()
        if node not in reached:
            reached.add(node)
            stack += node.users
    return reached


def classify_output(ending: OutputEnding | None, logits: Tensor) -> OutputKind:
    """The kind of a prediction.

    The graph says which activation comes last, and the values say whether the operators after it keep probabilities:
    ``softmax(x) * 100`` is none.

    Args:
        ending: from ``find_ending``; ``None`` where a score of the user's stands for the prediction.
        logits: ``(N, C, ...)`` or ``(N,)``, the answer to the example.
    """
    if ending is None:
        return "scores"
    values = logits.double()
    classes = logits.shape[1] if logits.ndim > 1 else 1
    in_unit = bool(((values >= -TOLERANCE) & (values <= 1 + TOLERANCE)).all())
    if classes > 1 and in_unit and _sums_to_one(values):
        return "softmax"
    by_hand = any(names <= ending.passed for names in BY_HAND)
    if ending.raw and not (by_hand and in_unit):
        return "scores" if _is_no_logit(ending, classes) else "logits" if classes > 1 else "binary_logits"
    if in_unit and not (logits.ndim > 2 and classes > 1 and any("softmax" in name for name in ending.activations)):
        return "sigmoid" if classes > 1 else "binary"
    return "logits" if classes > 1 and _sums_to_one(values.exp()) else "scores"


def _is_no_logit(ending: OutputEnding, classes: int) -> bool:
    """Whether what follows the last layer makes values of which no sigmoid or softmax is a probability."""
    passed = ending.passed
    if DISTANCES & passed and not TURNED & passed:
        return True
    return bool((EVIDENCE if classes > 1 else POSITIVE) & passed)


def _sums_to_one(values: Tensor) -> bool:
    return bool((values.sum(1) - 1).abs().amax() < TOLERANCE) if torch.isfinite(values).all() else False
