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


def resolve_class(wanted: str | None, class_names: Sequence[str] | None) -> int | None:
    """The index of a class given by number or name; ``None`` stands for the predicted one.

    A name matches the whole class name or one of its parts between commas, in any case.

    Raises:
        InputError: no class, or more than one, of that name; or no names are known.
    """
    if wanted is None:
        return None
    if wanted.lstrip("+-").isdecimal():
        return _in_range(int(wanted), class_names)
    if class_names is None:
        raise InputError(f"The class is {wanted!r}, and no class names are known; give its number.")
    key = wanted.strip().casefold()
    found = [n for n, name in enumerate(class_names) if name.casefold() == key]
    found = found or [n for n, name in enumerate(class_names) if key in _parts(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"The classes {', '.join(map(str, found))} are all named {wanted!r}; give a number.")
    known = {part: n for n, name in enumerate(class_names) for part in _parts(name)}
    near = [f"{part} ({known[part]})" for part in difflib.get_close_matches(key, known, n=4)]
    hint = f"Nearest: {', '.join(near)}." if near else "No class has a name like it; give a number."
    raise InputError(f"There is no class {wanted!r} among {len(class_names)}. {hint}")


def _in_range(class_idx: int, class_names: Sequence[str] | None) -> int:
    if class_idx < 0 or (class_names is not None and class_idx >= len(class_names)):
        top = f"0 to {len(class_names) - 1}" if class_names is not None else "0 or more"
        raise InputError(f"The class is {class_idx}; expected {top}.")
    return class_idx


def _parts(name: str) -> list[str]:
    return [part.strip().casefold() for part in name.split(",")]


def asked_classes(class_idx: NDArray[np.int64], top_k: int | None) -> NDArray[np.int64]:
    """One wanted class per image as an artifact takes it: of ``top_k``, the first; the predicted ones follow."""
    if top_k is None:
        return class_idx
    asked = np.full((len(class_idx), top_k), PREDICTED, np.int64)
    asked[:, 0] = class_idx
    return asked


def each_class(answer: Answer) -> list[Answer]:
    """One answer per class that was explained: several where the artifact explains the ``top_k`` first."""
    if answer.class_idx.ndim == 1:
        return [answer]
    logits, class_idx, cam = answer
    return [Explanation(logits, class_idx[:, k], cam[:, k]) for k in range(class_idx.shape[1])]


def found_classes(answer: Answer, class_names: Sequence[str] | None, top: int = TOP) -> dict[str, Any]:
    """The explained class and the best ones; probabilities only where the logits are one per class.

    Args:
        answer: of one image.
        class_names: one per class, if known.
        top: how many of the best classes to list.
    """

    def name(index: int) -> str | None:
        return class_names[index] if class_names is not None else None

    class_idx = int(answer.class_idx[0])
    odds = probabilities(answer.logits)
    best = []
    if odds is not None:
        order = [int(n) for n in np.argsort(-odds, kind="stable")[:top]]
        best = [{"class_idx": n, "class_name": name(n), "probability": float(odds[n])} for n in order]
    return {
        "class_idx": class_idx,
        "class_name": name(class_idx),
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


def label(found: dict[str, Any]) -> str:
    """The explained class in words: ``Egyptian cat, 79%``."""
    name = found["class_name"] or f"class {found['class_idx']}"
    if found["probability"] is None:
        return str(name)
    return f"{name}, {found['probability']:.0%}" if found["probability"] >= 0.005 else f"{name}, below 1%"


def _caption(path: Path, found: dict[str, Any]) -> str:
    return f"{path.name}: {label(found)}"


def _first(answer: Sequence[NDArray[Any]]) -> Answer:
    logits, class_idx, cam, *_ = answer  # a picture that the artifact draws is drawn again, as asked
    return Explanation(logits[:1], class_idx[:1], cam[:1])
