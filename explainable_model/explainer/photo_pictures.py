"""Explains one photo and writes its pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.explainer.answers import Answer, label_class, make_caption, split_classes
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.pictures import DICOM, PhotoRequest, save_answer
from explainable_model.imaging.overlay import OverlayStyle, hottest_point, overlay
from explainable_model.imaging.preprocess import Box
from explainable_model.imaging.sheets import panel
from explainable_model.imaging.tiles import Tile, tile_sheet

if TYPE_CHECKING:
    from PIL.Image import Image


def explain_photo(explainer: Explainer, request: PhotoRequest) -> dict[str, Any]:
    """Explain one photo and write its panel and its overlay: ``<target>-panel.png`` and ``<target>-overlay.png``.

    Args:
        explainer: what explains it.
        request: the photo and the pictures.

    Returns:
        The record for JSON; with ``top_k``, the record of each class as ``explained``.
    """
    photo, path = request.photo, request.path
    classes = None if request.class_idx is None else np.asarray([request.class_idx], np.int64)
    answers = split_classes(explainer.run(explainer.preprocess(photo), classes))
    box = explainer.preprocess.box(*photo.size)
    records = [
        {
            **explainer.describe(answer),
            "hottest": list(hottest_point(answer.cam[0], box)),
        }
        for answer in answers
    ]
    caption = path.name if request.ending != DICOM or request.keep_patient else ""
    pictures = _draw(photo, caption, answers, records, box, request.style, explainer)
    comment = f"{'; '.join(map(label_class, records))}; {explainer.describe_method()}."
    files = {
        kind: save_answer(
            picture, request.name_file(kind), source=path, keep_patient=request.keep_patient, comment=comment
        )
        for kind, picture in pictures.items()
    }
    explained = [{key: value for key, value in record.items() if key != "top"} for record in records]
    return {
        "photo": str(path),
        **records[0],
        **({} if explainer.top_k is None else {"explained": explained}),
        "box": list(box),
        **{kind: str(file) for kind, file in files.items()},
    }


def draw_overlay(photo: "Image", cam: NDArray[Any], box: Box, style: OverlayStyle, *, signed: bool) -> "Image":
    """Draw the photo under one map ``(h, w)``."""
    return overlay(photo, cam, box=box, **style.keywords(signed=signed))


def _draw(
    photo: "Image",
    name: str,
    answers: Sequence[Answer],
    records: Sequence[dict[str, Any]],
    box: Box,
    style: OverlayStyle,
    explainer: Explainer,
) -> dict[str, "Image"]:
    """Draw a panel of one class, or a strip of several, and the overlay of the first class."""
    signed = explainer.signed
    overlays = [draw_overlay(photo, answer.cam[0], box, style, signed=signed) for answer in answers]
    if explainer.top_k is not None:
        tiles = [Tile(picture, label_class(record)) for picture, record in zip(overlays, records, strict=True)]
        return {"panel": tile_sheet([Tile(photo, name), *tiles]), "overlay": overlays[0]}
    note = explainer.describe_method()
    drawn = panel(
        photo, answers[0].cam[0], make_caption(name, records[0]), box, note=note, **style.keywords(signed=signed)
    )
    return {"panel": drawn, "overlay": overlays[0]}
