"""From a network's output to words: classes, probabilities, labels."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.explanation import PREDICTED, Explanation

Answer: TypeAlias = Explanation[NDArray[Any]]

TOP = 5


def resolve_class(text: str | None, class_names: Sequence[str] | None) -> int | None:
    """Find the index of a class given by number or name; ``None`` stands for the predicted class.

    A name matches the whole class name or one of its parts between commas, in any case.

    Raises:
        InputError: no class, or more than one, of that name; or no names are known.
    """
    if text is None:
        return None
    if text.lstrip("+-").isdecimal():
        return _check_range(int(text), class_names)
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


def describe_classes(answer: Answer, class_names: Sequence[str] | None, top: int = TOP) -> dict[str, Any]:
    """Describe the explained class and the best classes, for JSON.

    Args:
        answer: of one image.
        class_names: one per class, if known.
        top: how many of the best classes to list.
    """

    def find_name(index: int) -> str | None:
        return class_names[index] if class_names is not None else None

    class_idx = int(answer.class_idx[0])
    odds = probabilities(answer.logits)
    best = []
    if odds is not None:
        order = [int(n) for n in np.argsort(-odds, kind="stable")[:top]]
        best = [{"class_idx": n, "class_name": find_name(n), "probability": float(odds[n])} for n in order]
    return {
        "class_idx": class_idx,
        "class_name": find_name(class_idx),
        "probability": None if odds is None else float(odds[class_idx]),
        "top": best,
    }


def probabilities(logits: NDArray[Any]) -> NDArray[np.float64] | None:
    """Softmax of ``(1, classes)``; logits that already are a distribution stay; else ``None``."""
    if logits.ndim != 2 or logits.shape[1] < 2:
        return None
    values: NDArray[np.float64] = logits[0].astype(np.float64)
    if values.min() >= 0 and abs(values.sum() - 1) < 1e-3:
        return values
    odds = np.exp(values - values.max())
    shares: NDArray[np.float64] = odds / odds.sum()
    return shares


def label_class(record: dict[str, Any]) -> str:
    """Write the explained class in words: ``Egyptian cat, 79%``."""
    name = record["class_name"] or f"class {record['class_idx']}"
    if record["probability"] is None:
        return str(name)
    return f"{name}, {record['probability']:.0%}" if record["probability"] >= 0.005 else f"{name}, below 1%"


def make_caption(path: Path, record: dict[str, Any]) -> str:
    """Write the caption of a panel: the name of the file and the explained class."""
    return f"{path.name}: {label_class(record)}"


def take_first(answer: Sequence[NDArray[Any]]) -> Answer:
    """Take the first image's answer of a batch, without the overlay that an artifact may draw."""
    logits, class_idx, cam, *_ = answer
    return Explanation(logits[:1], class_idx[:1], cam[:1])
