"""Find the prediction in whatever a network returns, and refuse a prediction that holds no class scores."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor

from explainable_model.attribution.argument_values import describe
from explainable_model.attribution.containers import Path, named_tensors, named_values
from explainable_model.attribution.layout import at_example, stride_distortion
from explainable_model.attribution.ranks import refuse_named_ranks, refuse_ranks, refuse_top_scores
from explainable_model.errors import ModelError

SCORE_NAMES = ("logits", "out")  # Hugging Face's name and torchvision segmentation's

# Parts of an output that are named after something else than class scores.
OTHER_NAMES = re.compile(
    r"hidden_state|pooler|pooled|embed|feature|attention|depth|box|mask|keypoint|anchor|quer|point|flow|loss", re.I
)
BOX_NAMES = re.compile(r"box|keypoint", re.I)
LISTED = 6  # candidates that an error lists

Select: TypeAlias = str | int | Callable[[Any], Tensor] | None
"""The part of the network's output that is the prediction: a key or attribute, a position, or a function."""


@dataclass(frozen=True)
class Prediction:
    """The tensor of a network's output that is explained.

    Attributes:
        tensor: floating point, with the batch first.
        name: where it lies in the output; empty for an output that is a tensor.
        declared: whether the user, or its name, says that it holds class scores.
    """

    tensor: Tensor
    name: str = ""
    declared: bool = False


def _refuse_other_layouts(tensor: Tensor) -> None:
    if tensor.layout is not torch.strided or tensor.is_nested:
        kind = "nested" if tensor.is_nested else "sparse"
        raise ModelError(
            f"The network returned a {kind} tensor; expected dense scores (N, classes). Wrap the network so that it "
            f"returns {'output.to_padded_tensor(0.0)' if tensor.is_nested else 'output.to_dense()'}."
        )


def find_prediction(output: Any, select: Select = None) -> Prediction:
    """The tensor that holds the prediction in whatever the network returns.

    A tensor is itself. In a mapping, dataclass or namedtuple the entry ``logits`` or ``out`` is the prediction. Every
    other output must hold exactly one floating point tensor with a dimension; a scalar beside it is a loss.

    Args:
        output: what the network returned.
        select: the part to take instead.

    Raises:
        ModelError: no tensor, or several of which none is named ``logits`` or ``out``; boxes; or nothing where
            ``select`` points.
    """
    if select is not None:
        return Prediction(_select_part(output, select), repr(select), declared=True)
    if isinstance(output, Tensor) and output.is_floating_point():
        _refuse_other_layouts(output)
        refuse_ranks(output)
        return Prediction(output)
    refuse_named_ranks(output)
    _refuse_detections(output)
    entries = dict(named_values(output)) if not isinstance(output, (list, tuple)) or hasattr(output, "_fields") else {}
    for name in SCORE_NAMES:
        if isinstance(entries.get(name), Tensor):
            return Prediction(entries[name], name, declared=True)
    candidates = _candidates(output)
    if len(candidates) == 1:
        path, tensor = candidates[0]
        refuse_ranks(tensor)
        refuse_top_scores(output, tensor)
        return Prediction(tensor, ".".join(map(str, path)))
    if not candidates:
        raise ModelError(
            f"The network returned {type(output).__name__} without a floating point tensor of scores; "
            "expected logits of shape (N, classes). Wrap the network so that it returns them, or pass a "
            "target=function(output, class_idx) -> (N,)."
        )
    _refuse_several(output, candidates)


def _candidates(output: Any) -> list[tuple[Path, Tensor]]:
    """Every different floating point tensor that has a dimension, with its place in the output."""
    candidates: list[tuple[Path, Tensor]] = []
    for path, tensor in named_tensors(output):
        if tensor.ndim and not any(tensor is known for _, known in candidates):
            candidates.append((path, tensor))
    return candidates


def _refuse_detections(output: Any) -> None:
    if isinstance(output, list) and len(output) == 1 and isinstance(output[0], Tensor) and output[0].ndim:
        raise ModelError(
            f"The network returned a list of 1 tensor, {tuple(output[0].shape)}, which may hold the boxes of one "
            "image, as detectors return them, one per image. If it holds (N, classes) scores, write output=0. "
            + _target_hint("output[0][...]")
        )
    if isinstance(output, (list, tuple)) and output and all(isinstance(part, Mapping) for part in output):
        raise ModelError(
            f"The network returned {len(output)} dictionaries ({', '.join(map(str, output[0]))}), one per image, as "
            f"detectors do; they hold no scores of classes. {_target_hint('output[0][...]')}"
        )
    boxes = [name for path, _ in named_tensors(output) for name in map(str, path) if BOX_NAMES.search(name)]
    if boxes:
        owner = "boxes" if any("box" in name.lower() for name in boxes) else "keypoints"
        raise ModelError(
            f"The network returned {type(output).__name__} with {boxes[0]!r}, as detectors do: its scores belong to "
            f"{owner}, not to the image. {_target_hint('output[...]')}"
        )


def _target_hint(part: str) -> str:
    return (
        "Explain its boxes: ExplainableModel(network, task='detection', top_k=5). Or say which score is explained: "
        f"target=lambda output, class_idx: {part} -> (N,), one value per image."
    )


def _refuse_several(output: Any, candidates: Sequence[tuple[Path, Tensor]]) -> NoReturn:
    listed = ", ".join(f"{_select_text(path)} {tuple(tensor.shape)}" for path, tensor in candidates[:LISTED])
    more = f" and {len(candidates) - LISTED} more" if len(candidates) > LISTED else ""
    likely = [path for path, _ in candidates if not OTHER_NAMES.search(".".join(map(str, path)))]
    hint = (
        f"Name the one that holds the class scores: output={_select_text(likely[0])} or another of them."
        if likely
        else "None is named after class scores: add the classifier to the network, or name the one that holds (N, "
        f"classes) scores, such as output={_select_text(candidates[-1][0])}."
    )
    raise ModelError(
        f"The network returned {type(output).__name__} with {len(candidates)} tensors, any of which may be the "
        f"prediction: {listed}{more}. {hint}"
    )


def _select_text(path: Path) -> str:
    """The ``output=`` argument that selects the part at this place."""
    if len(path) == 1:
        return repr(path[0])
    return f"lambda output: output{''.join(f'[{part!r}]' for part in path)}"


def _select_part(output: Any, select: str | int | Callable[[Any], Tensor]) -> Tensor:
    if not (callable(select) or isinstance(select, str | int)):
        raise ModelError(f"output is {describe(select)}; expected a name, a position or a function.")
    try:
        if callable(select):
            chosen = select(output)
        elif isinstance(select, str) and not isinstance(output, Mapping):
            chosen = getattr(output, select)
        else:
            chosen = output[select]
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        parts = ", ".join(str(name) for name, _ in named_values(output)) or type(output).__name__
        raise ModelError(f"output={select!r} is not in what the network returned ({parts}).") from error
    if not isinstance(chosen, Tensor) or not chosen.is_floating_point():
        raise ModelError(
            f"output={select!r} is {type(chosen).__name__} in what the network returned; expected a floating point "
            "tensor with the batch first."
        )
    return chosen


def check_class_scores(prediction: Prediction, image_shape: Sequence[Any]) -> None:
    """Refuse a prediction that does not hold one score, or one map of scores, for each class.

    Scores are ``(N,)``, ``(N, classes)`` or ``(N, classes, *spatial)``, where the spatial dimensions are one or the
    image's. A tensor that is named ``logits`` or ``out``, or that the user selected, may be a map of lower resolution.

    Args:
        prediction: what ``find_prediction`` found.
        image_shape: ``(N, C, *spatial)``.

    Raises:
        ModelError: the shape or the name tells of boxes, queries, tokens, features or values per pixel.
    """
    shape, size = at_example(prediction.tensor.shape), at_example(image_shape[2:])
    if not prediction.declared and OTHER_NAMES.search(prediction.name):
        raise ModelError(
            f"The network returned {prediction.name!r} of shape {tuple(shape)}, which is not named after class scores. "
            f"Add the classifier to the network, pass output={prediction.name!r} if it holds (N, classes) scores, or "
            f"target=function(output, class_idx) -> (N,)."
        )
    extra = shape[2:]
    if all(length == 1 for length in extra) or extra == size:
        return
    if prediction.declared and len(extra) == len(size) > 1 and _is_reduced(extra, size):
        return
    raise ModelError(
        f"The network returned shape {tuple(shape)} for an image of shape {tuple(at_example(image_shape))}; expected "
        f"class scores (N, classes), or (N, classes, {', '.join(map(str, size))}) for a segmentation. "
        f"{_meaning(shape, size)}"
    )


def _is_reduced(grid: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a grid is the image's at lower resolution, by the same factor in every direction."""
    return all(1 < g <= s for g, s in zip(grid, size, strict=True)) and stride_distortion(grid, size) == 0


def _meaning(shape: Sequence[int], size: Sequence[int]) -> str:
    """What a shape that is no table of class scores may be, and what to write."""
    if list(shape[1:]) == list(size):
        return (
            "This is one value per pixel, such as a depth. Say what is explained: "
            "target=lambda output, class_idx: ... -> (N,), one value per image."
        )
    if len(shape) == len(size) + 2 and not _is_reduced(shape[2:], size):
        return (
            "This may be an image, or a table of boxes. Say what is explained: target=lambda output, class_idx: ... -> "
            "(N,), one value per image."
        )
    if len(shape) == len(size) + 2:
        return (
            "This may be a map of features, or of classes at a lower resolution: pass target=Segmentation() for "
            "classes, and add the classifier to the network otherwise."
        )
    return (
        "The further dimension may count boxes, queries or tokens, or the steps of a text. Pass output= for another "
        "part of the output, or target=lambda output, class_idx: ... -> (N,) for the score of one of them, such as "
        "output.amax((1, 2)) for the surest one."
    )
