"""One photo explained by every method, on one sheet."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.errors import ExplainableModelError, InputError
from explainable_model.explainer.answers import Answer, found_classes, label
from explainable_model.explainer.explainer import Explainer, draw_overlay
from explainable_model.imaging.overlay import OverlayStyle, hottest_point
from explainable_model.imaging.sheets import save_picture
from explainable_model.imaging.tiles import Tile, tile_sheet
from explainable_model.methods import METHODS

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET_METHODS = tuple(name for name, method in METHODS.items() if method.on_sheet)
ExplainerOf = Callable[[str], Explainer]  # method -> what explains with it


@dataclass(frozen=True)
class Attempt:
    """One method on one photo.

    Attributes:
        method: key of ``METHODS``.
        seconds: wall time of the call, with what the method prepares once for each network.
        answer: its answer; ``None`` where the method does not fit the network.
        reason: why it does not.
    """

    method: str
    seconds: float
    answer: Answer | None
    reason: str = ""


def attempt(explainer_of: ExplainerOf, method: str, photo: "Image", classes: Any) -> tuple[Attempt, Explainer | None]:
    """Explain a photo with one method; a method that does not fit the network says why."""
    started = time.perf_counter()
    try:
        explainer = explainer_of(method)
        answer = explainer.run(explainer.preprocess(photo), classes)
    except ExplainableModelError as error:
        return Attempt(method, time.perf_counter() - started, None, str(error)), None
    return Attempt(method, time.perf_counter() - started, answer), explainer


def explain_with_all(
    explainer_of: ExplainerOf,
    photo: "Image",
    path: Path,
    class_idx: int | None,
    look: OverlayStyle,
    target: Path,
    methods: Iterable[str] = SHEET_METHODS,
) -> dict[str, Any]:
    """Explain one photo with every method that does not take minutes, and write ``<target>-methods.png``.

    Args:
        explainer_of: makes what explains it.
        photo: as from ``open_photo``.
        path: where it came from.
        class_idx: the class to explain; ``None`` for the predicted.
        look: of the overlays.
        target: an existing folder and the beginning of the file name.
        methods: keys of ``METHODS``.

    Returns:
        What was found, for JSON: the sheet, the methods and their seconds, and why others do not fit.

    Raises:
        InputError: no method fits.
    """
    classes = None if class_idx is None else np.asarray([class_idx], np.int64)
    found: dict[str, Any] = {}
    rows, failures, tiles = [], [], [Tile(photo, "Photo")]
    for method in methods:
        tried, explainer = attempt(explainer_of, method, photo, classes)
        if tried.answer is None or explainer is None:
            failures.append({"method": method, "error": tried.reason})
            continue
        found = found or found_classes(tried.answer, explainer.class_names)
        box = explainer.preprocess.box(*photo.size)
        picture = draw_overlay(photo, tried.answer.cam[0], box, look, signed=explainer.signed)
        tiles.append(Tile(picture, METHODS[method].title, f"{tried.seconds:.2f} s"))
        hottest = list(hottest_point(tried.answer.cam[0], box))
        rows.append({"method": method, "seconds": tried.seconds, "hottest": hottest})
    if not rows:
        raise InputError(f"No method fits the network. {failures[0]['method']}: {failures[0]['error']}")
    left_out = [f"{METHODS[failure['method']].title}" for failure in failures]
    heading = f"{path.name}: {label(found)}" + (f" (not for this network: {', '.join(left_out)})" if left_out else "")
    sheet = save_picture(tile_sheet(tiles, heading), target.with_name(f"{target.name}-methods.png"))
    return {"photo": str(path), **found, "sheet": str(sheet), "methods": rows, "failures": failures}


def in_words(found: dict[str, Any]) -> str:
    """What ``explain_with_all`` found, for people."""
    lines = [f"{found['photo']}: {label(found)} -> {found['sheet']}"]
    lines += [f"  {METHODS[row['method']].title}: {row['seconds']:.2f} s" for row in found["methods"]]
    lines += [
        f"  {METHODS[failure['method']].title}: not for this network: {failure['error']}"
        for failure in found["failures"]
    ]
    return "\n".join(lines)
