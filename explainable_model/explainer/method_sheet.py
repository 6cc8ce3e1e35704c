"""One photo explained by every method, on one sheet."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.errors import ExplainableModelError, InputError
from explainable_model.explainer.answers import Answer, label_class
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.photo_pictures import draw_overlay
from explainable_model.explainer.pictures import PhotoRequest
from explainable_model.imaging.overlay import hottest_point
from explainable_model.imaging.sheets import save_picture
from explainable_model.imaging.tiles import Tile, tile_sheet
from explainable_model.methods import METHODS

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET_METHODS = tuple(name for name, method in METHODS.items() if method.on_sheet)
ExplainerMaker = Callable[[str], Explainer]  # key of ``METHODS`` -> its explainer


@dataclass(frozen=True)
class Attempt:
    """One method on one photo.

    Attributes:
        method: key of ``METHODS``.
        seconds: wall time of the first call, which includes the preparation for the network.
        answer: its answer; ``None`` where the method does not fit the network.
        reason: why the method does not fit.
    """

    method: str
    seconds: float
    answer: Answer | None
    reason: str = ""


def try_method(
    make_explainer: ExplainerMaker, method: str, photo: "Image", classes: Any
) -> tuple[Attempt, Explainer | None]:
    """Explain a photo with one method; where it does not fit the network, return the reason."""
    started = time.perf_counter()
    try:
        explainer = make_explainer(method)
        answer = explainer.run(explainer.preprocess(photo), classes)
    except ExplainableModelError as error:
        return Attempt(method, time.perf_counter() - started, None, str(error)), None
    return Attempt(method, time.perf_counter() - started, answer), explainer


def explain_with_all(
    make_explainer: ExplainerMaker, request: PhotoRequest, methods: Iterable[str] = SHEET_METHODS
) -> dict[str, Any]:
    """Explain one photo with every method that does not take minutes, and write ``<target>-methods.png``.

    Args:
        make_explainer: makes the explainer of a method.
        request: the photo and the picture.
        methods: keys of ``METHODS``.

    Returns:
        The record for JSON: the sheet, the methods and their seconds, and why other methods do not fit.

    Raises:
        InputError: no method fits.
    """
    photo, path = request.photo, request.path
    classes = None if request.class_idx is None else np.asarray([request.class_idx], np.int64)
    record: dict[str, Any] = {}
    rows, failures, tiles = [], [], [Tile(photo, "Photo")]
    for method in methods:
        attempt, explainer = try_method(make_explainer, method, photo, classes)
        if attempt.answer is None or explainer is None:
            failures.append({"method": method, "error": attempt.reason})
            continue
        record = record or explainer.describe(attempt.answer)
        box = explainer.preprocess.box(*photo.size)
        picture = draw_overlay(photo, attempt.answer.cam[0], box, request.style, signed=explainer.signed)
        tiles.append(Tile(picture, METHODS[method].title, f"{attempt.seconds:.2f} s"))
        hottest = list(hottest_point(attempt.answer.cam[0], box))
        rows.append({"method": method, "seconds": attempt.seconds, "hottest": hottest})
    if not rows:
        raise InputError(f"No method fits the network. {failures[0]['method']}: {failures[0]['error']}")
    left_out = [METHODS[failure["method"]].title for failure in failures]
    heading = f"{path.name}: {label_class(record)}" + (
        f" (not for this network: {', '.join(left_out)})" if left_out else ""
    )
    sheet = save_picture(tile_sheet(tiles, heading), request.name_file("methods"))
    return {"photo": str(path), **record, "sheet": str(sheet), "methods": rows, "failures": failures}


def describe_sheet(record: dict[str, Any]) -> str:
    """Describe the record of ``explain_with_all`` for people."""
    lines = [f"{record['photo']}: {label_class(record)} -> {record['sheet']}"]
    lines += [f"  {METHODS[row['method']].title}: {row['seconds']:.2f} s" for row in record["methods"]]
    lines += [
        f"  {METHODS[failure['method']].title}: not for this network: {failure['error']}"
        for failure in record["failures"]
    ]
    return "\n".join(lines)
