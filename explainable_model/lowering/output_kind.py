"""Finds how a network's output is to be read as probabilities, from its ending and its answer to the example."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.prediction import Select
from explainable_model.attribution.targets import Binary
from explainable_model.explanation import OUTPUT_KINDS, OutputKind
from explainable_model.lowering.output_ending import DISTANCES, OPAQUE, PASSIVE, OutputEnding

BY_HAND = ({"exp", "reciprocal"}, {"exp", "div"})
"""Operators that a sigmoid is written with where no operator of that name is used."""

POSITIVE = {"relu", "softplus", "abs", "exp", "pow", "square"}
"""Operators that end a count, an age or a density: of one logit they would leave the half that says yes."""

EVIDENCE = {"softplus"}  # of classes, as parameters of a Dirichlet distribution; a rectified map is averaged, too
TURNED = {"neg", "mul", "sub", "rsub", "div", "exp", "reciprocal"}  # which make the nearest class the largest
SHIFTS, SCALES = {"add", "sub", "rsub"}, {"mul", "div"}
KEEPING = PASSIVE | SHIFTS | {"neg", "amax", "max", "mean"}  # under which cosines stay within a range of two

TOLERANCE = 1e-2  # float16 and bfloat16 probabilities do not sum to exactly one

PROBLEMS: dict[Any, OutputKind] = {"regression": "scores", "multi_label_classification": "sigmoid_logits"}
"""The kinds of values without activation by ``config.problem_type`` of transformers."""

LOSSES: dict[type[nn.Module], OutputKind] = {
    nn.BCEWithLogitsLoss: "sigmoid_logits",
    nn.MultiLabelSoftMarginLoss: "sigmoid_logits",
    nn.MSELoss: "scores",
    nn.L1Loss: "scores",
    nn.SmoothL1Loss: "scores",
    nn.HuberLoss: "scores",
    nn.PoissonNLLLoss: "scores",
    nn.GaussianNLLLoss: "scores",
}
"""The kinds of values without activation by the loss that a network keeps."""


def declared_kind(model: nn.Module, target: Any, select: Select = None) -> OutputKind | None:
    """How values without activation are read, as far as the network or the target tells; ``None`` where neither does.

    Args:
        model: its ``output_kind``, the ``problem_type`` of its configuration and the loss that it keeps are read; of
            a module that only wraps another one, those of the other as well.
        target: ``Binary()`` says that the one value is a logit; with another threshold it may be anything.
        select: which part of the output is the prediction. Where one was chosen, a loss may be that of another part.
    """
    if isinstance(target, Binary):
        return "binary_logits" if target.threshold == 0 else None
    found = (_read_declared(module, of_loss=select is None) for module in _unwrap(model))
    return next((kind for kind in found if kind is not None), None)


def _read_declared(module: nn.Module, *, of_loss: bool) -> OutputKind | None:
    said = next((kind for kind in OUTPUT_KINDS if kind == getattr(module, "output_kind", None)), None)
    problem = getattr(getattr(module, "config", None), "problem_type", None)
    if said is not None or isinstance(problem, str):
        return said or PROBLEMS.get(problem)
    losses = {LOSSES.get(type(child)) for child in module.children() if isinstance(child, nn.modules.loss._Loss)}
    return losses.pop() if of_loss and len(losses) == 1 else None  # several mean several tasks


def _unwrap(module: nn.Module) -> Iterator[nn.Module]:
    """A module, and the only one with weights in it, for as long as it has no weights of its own."""
    yield module
    inner = [child for child in module.children() if next(child.parameters(), None) is not None]
    if len(inner) == 1 and next(module.parameters(recurse=False), None) is None:
        yield from _unwrap(inner[0])


def classify_output(ending: OutputEnding | None, logits: Tensor) -> OutputKind:
    """The kind of a prediction.

    The graph says which activation comes last, and the values say whether the operators after it keep probabilities:
    ``softmax(x) * 100`` is none. One value without activation may be a logit or an age: it is a score unless the
    network or the target tells.

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
    if ending.raw and not (in_unit and _is_sigmoid_by_hand(ending)):
        return _classify_raw(ending, values, classes, in_unit)
    if in_unit and not (logits.ndim > 2 and classes > 1 and any("softmax" in name for name in ending.activations)):
        return "sigmoid" if classes > 1 else "binary"
    return "logits" if classes > 1 and _sums_to_one(values.exp()) else "scores"


def _is_sigmoid_by_hand(ending: OutputEnding) -> bool:
    after = ending.passed.get("tanh", frozenset())  # (tanh(x / 2) + 1) / 2, and not an angle that is positive by chance
    return any(names <= ending.passed.keys() for names in BY_HAND) or bool(SHIFTS & after and SCALES & after)


def _classify_raw(ending: OutputEnding, values: Tensor, classes: int, in_unit: bool) -> OutputKind:
    """The kind of values that no activation made probabilities of."""
    if classes == 1:
        is_logit = ending.declared in ("binary_logits", "sigmoid_logits") and not _is_no_logit(ending, values)
        return "binary_logits" if is_logit else "scores"
    if ending.declared in ("logits", "sigmoid_logits", "scores"):
        return ending.declared
    # Of a number with a shift for each class, softmax would be the same for every image.
    is_score = ending.is_shifted or _is_no_logit(ending, values) or _are_cosines(ending, values, in_unit)
    return "scores" if is_score or (in_unit and OPAQUE in ending.passed) else "logits"


def _is_no_logit(ending: OutputEnding, values: Tensor) -> bool:
    """Whether what follows the last layer makes values of which no sigmoid or softmax is a probability."""
    passed, classes = ending.passed, values.shape[1] if values.ndim > 1 else 1
    distances = [above for name, above in passed.items() if name in DISTANCES]
    squares = passed.get("pow", frozenset()) | passed.get("square", frozenset()) | passed.get("abs", frozenset())
    distances += [squares] if classes > 1 and "sum" in squares else []
    is_bounded = "tanh" in passed and passed["tanh"] <= PASSIVE
    if is_bounded or any(not TURNED & above for above in distances):
        return True
    ends_positive = (EVIDENCE if classes > 1 else POSITIVE) & passed.keys()  # or an inner step, as of Mish by hand
    return bool(ends_positive) and bool((values >= 0).all())


def _are_cosines(ending: OutputEnding, values: Tensor, in_unit: bool) -> bool:
    """Whether the values are cosines, or distances between angles, that no scale makes logits of."""
    if ending.cosine is None:
        return False
    moved = ending.cosine - KEEPING
    if not moved:
        return bool(((values >= -1 - TOLERANCE) & (values <= 2 + TOLERANCE)).all())
    return moved <= SCALES and bool(SHIFTS & ending.cosine) and in_unit  # (1 + cosine) / 2


def _sums_to_one(values: Tensor) -> bool:
    return bool((values.sum(1) - 1).abs().amax() < TOLERANCE) if torch.isfinite(values).all() else False
