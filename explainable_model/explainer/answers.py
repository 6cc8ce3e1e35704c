"""From a network's output to words: classes, probabilities, labels."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.explanation import INDEPENDENT_KINDS, PREDICTED, PRESENT, Explanation, OutputKind

Answer: TypeAlias = Explanation[NDArray[Any]]

TOP = 5
MAX_DIGITS, MAX_NAME = 20, 1000
BINARY = ("binary", "binary_logits")


def resolve_class(text: str | None, class_names: Sequence[str] | None) -> int | None:
    """Find the index of a class given by number or name; ``None`` and ``-1`` stand for the predicted class.

    A name matches the whole class name or one of its parts between commas, in any case.

    Raises:
        InputError: no class, or more than one, of that name; a text that is too long; or no names are known.
    """
    if text is None or text.strip() == str(PREDICTED):
        return None
    if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text):
        if len(text) > MAX_DIGITS:  # Python refuses to read a number of thousands of digits
            raise InputError(f"The class is a number of {len(text)} characters; expected the index of a class.")
        return _check_range(int(text), class_names)
    if len(text) > MAX_NAME:  # the search for near names takes the square of the length
        raise InputError(f"The name of the class has {len(text)} characters; expected at most {MAX_NAME}.")
    if class_names is None:
        raise InputError(f"The class is {text!r}, and no class names are known; give its number.")
    key = text.strip().casefold()
    matches = [n for n, name in enumerate(class_names) if name.casefold() == key]
    matches = matches or [n for n, name in enumerate(class_names) if key in _split_name(name)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(f"The classes {', '.join(map(str, matches))} are all named {text!r}; give a number.")
    known = {part: n for n, name in enumerate(class_names) for part in _split_name(name)}
    near = [f"{part} ({known[part]})" for part in difflib.get_close_matches(key, known, n=4)]
    hint = f"Nearest: {', '.join(near)}." if near else "No class has a name like it; give a number."
    raise InputError(f"There is no class {text!r} among {len(class_names)}. {hint}")


def _check_range(class_idx: int, class_names: Sequence[str] | None) -> int:
    if class_idx < 0 or (class_names is not None and class_idx >= len(class_names)):
        top = f"0 to {len(class_names) - 1}" if class_names is not None else "0 or more"
        raise InputError(f"The class is {class_idx}; expected {top}.")
    return class_idx


def _split_name(name: str) -> list[str]:
    return [part.strip().casefold() for part in name.split(",")]


def expand_class_idx(class_idx: NDArray[np.int64], top_k: int | None) -> NDArray[np.int64]:
    """Add ``top_k - 1`` predicted classes behind the class asked for, as an artifact with ``top_k`` takes them."""
    if top_k is None:
        return class_idx
    classes = np.full((len(class_idx), top_k), PREDICTED, np.int64)
    classes[:, 0] = class_idx
    return classes


def split_classes(answer: Answer) -> list[Answer]:
    """Split an answer with ``top_k`` explained classes into one answer per class."""
    if answer.class_idx.ndim == 1:
        return [answer]
    logits, class_idx, cam = answer
    return [Explanation(logits, class_idx[:, k], cam[:, k]) for k in range(class_idx.shape[1])]


def describe_classes(
    answer: Answer,
    class_names: Sequence[str] | None,
    kind: OutputKind | None,
    top: int = TOP,
    *,
    classes: int | None = None,
    threshold: float = PRESENT,
) -> dict[str, Any]:
    """Describe the explained class and the best classes, for JSON.

    Args:
        answer: of one image.
        class_names: one per class, if known.
        kind: how the output is read as probabilities; ``None`` for unknown.
        top: how many of the best classes to list.
        classes: how many classes can be explained; two of a single output are its absence and its presence.
        threshold: smallest probability of a class that is present.

    Returns:
        ``output_kind``; ``class_idx``, ``class_name``, ``score`` and ``probability`` of the explained class; ``top``,
        the same of the best classes. ``score`` is the network's own output for the class, summed over pixels.
        ``probability`` is ``None`` where the output has none. Where each class is present or absent by itself,
        ``present`` says whether its probability reaches the threshold.
    """
    scores = _sum_scores(answer.logits)
    odds = probabilities(answer.logits, kind)
    two_sided = odds is not None and len(odds) == 1 and classes == 2
    if odds is not None and two_sided:
        odds, scores = np.append(1 - odds, odds), np.append(scores, scores)

    def describe(class_idx: int) -> dict[str, Any]:
        column = 0 if len(scores) == 1 else class_idx
        probability = None if odds is None else float(odds[column])
        record = {
            "class_idx": class_idx,
            "class_name": class_names[class_idx] if class_names is not None else None,
            "score": float(scores[column]) if column < len(scores) else None,
            "probability": probability,
        }
        if kind in INDEPENDENT_KINDS and probability is not None and not two_sided:
            record["present"] = probability >= threshold
        return record

    one_per_class = two_sided or (answer.logits[0].size == len(scores) and classes in (None, len(scores)))
    best = np.argsort(-(scores if odds is None else odds), kind="stable")[:top] if one_per_class else ()
    explained = describe(int(answer.class_idx[0]))
    return {"output_kind": kind, **explained, "top": [describe(int(class_idx)) for class_idx in best]}


def _sum_scores(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Sum one image's output over pixels: one score per class; a single output stands for every class."""
    outputs = logits[0].astype(np.float64)
    scores: NDArray[np.float64] = outputs.reshape(outputs.shape[0] if outputs.ndim else 1, -1).sum(1)
    return scores


def probabilities(logits: NDArray[Any], kind: OutputKind | None) -> NDArray[np.float64] | None:
    """Compute the probability of each class.

    Args:
        logits: one image's output, ``(1, C)`` or ``(1,)``, with as many further dimensions of size 1 as it has.
        kind: how the output is read.

    Returns:
        ``(C,)``: softmax or sigmoid of the output, or the output itself; ``None`` for an unknown kind, for scores, and
        for an output that is not one value per class.
    """
    values: NDArray[np.float64] = logits.reshape(-1).astype(np.float64)
    if kind is None or kind == "scores" or (logits.ndim > 1 and len(values) != logits.shape[1]):
        return None
    if kind == "logits":
        exponentials = np.exp(values - values.max())
        shares: NDArray[np.float64] = exponentials / exponentials.sum()
        return shares
    if kind in ("sigmoid_logits", "binary_logits"):
        sigmoid: NDArray[np.float64] = 0.5 * (1 + np.tanh(values / 2))
        return sigmoid
    return values


def label_class(record: dict[str, Any]) -> str:
    """Write the explained class in words: ``Egyptian cat, 79%``, ``no pneumonia, 3%`` or ``Egyptian cat, score 7.31``.

    "No" stands before the class of a binary output that is absent; the percentage is that of the class.
    """
    name = record["class_name"] or f"class {record['class_idx']}"
    probability = record["probability"]
    if probability is None:
        return str(name) if record["score"] is None else f"{name}, score {record['score']:.3g}"
    share = f"{probability:.0%}" if probability >= 0.005 else "below 1%"
    absent = record["output_kind"] in BINARY and not record.get("present", True)
    return f"no {name}, {share}" if absent else f"{name}, {share}"


def make_caption(name: str, record: dict[str, Any]) -> str:
    """Write the caption of a panel: the name of the file, if it is to be told, and the explained class."""
    return f"{name}: {label_class(record)}" if name else label_class(record)


def take_first(answer: Sequence[NDArray[Any]]) -> Answer:
    """Take the first image's answer of a batch, without the overlay that an artifact may draw."""
    logits, class_idx, cam, *_ = answer
    return Explanation(logits[:1], class_idx[:1], cam[:1])
