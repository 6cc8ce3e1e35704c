"""The photos of a run under their maps, one after the other, for tools that show pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.photos import PhotoReader
from explainable_model.batch.schema import decode_map
from explainable_model.errors import InputError
from explainable_model.imaging.overlay import overlay
from explainable_model.imaging.preprocess import decode_photo
from explainable_model.paths import as_path
from explainable_model.report.contents import ContentFinder, Missing, find_listed
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RIGHT, UNKNOWN, RunTable
from explainable_model.report.selection import sort_rows

if TYPE_CHECKING:
    from PIL.Image import Image

MOST = 64  # photos
SIDE = 480  # pixels of the longest side


@dataclass(frozen=True)
class ExplainedPhoto:
    """A photo of a run under its map.

    Attributes:
        id: of its row.
        name: of the explained class.
        score: of that class.
        label: as it was given; ``None`` without one.
        is_right: whether the prediction is the label; ``None`` where that is unknown.
        cam: ``(h, w)`` float32, the map at the resolution of the layer.
        overlay: RGB, the photo under its map.
    """

    id: str
    name: str
    score: float
    label: str | None
    is_right: bool | None
    cam: NDArray[np.float32]
    overlay: "Image"

    @property
    def caption(self) -> str:
        """The answer in words: ``tabby 0.83, label: Egyptian cat``."""
        said = f"{self.name} {self.score:.2f}"
        return said if self.label is None else f"{said}, label: {self.label}"


def iterate_pictures(
    run: str | Path, *, limit: int = MOST, photos: str | Path | None = None, side: int = SIDE
) -> Iterator[ExplainedPhoto]:
    """Draw photos of a run under their maps, in the order of the report: wrong ones and unsure ones first.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        limit: how many photos at most. A photo that failed, that is no longer there, that has changed
            since the run, or that no longer decodes, is left out.
        photos: the folder in which they lie now, where it is not the folder of then.
        side: the longest side of a picture, in pixels.

    Raises:
        InputError, ArtifactError, MissingRuntimeError: as ``write_report``; or the run of a detector.
    """
    for name, number in (("limit", limit), ("side", side)):
        if type(number) is not int or number < 1:
            raise InputError(f"{name} is {number!r}; expected a whole number from 1 on.")
    table = read_run(run)
    if table.boxes is not None:
        raise InputError(
            f"{table.folder.path} is the run of a detector, and a picture here shows one class; explain(photos, "
            "artifact) draws the boxes of photos: answer.overlay()."
        )
    order = sort_rows(table)
    order = order[~table.failed[order]][:limit]
    rows = dict(table.read_rows(order))
    listed = find_listed(table.folder.path, [row["id"] for row in rows.values()])
    finder = ContentFinder(listed, None if photos is None else as_path(photos))
    reader = PhotoReader(finder.stores)
    for number in order.tolist():
        try:
            content = finder.read({**rows[number], "name": rows[number]["id"]}, reader)[1]
            picture = decode_photo(content, rows[number]["id"], None)
        except (Missing, InputError):
            continue
        yield _draw(table, number, rows[number], picture, side)


def _draw(table: RunTable, number: int, row: dict[str, Any], picture: "Image", side: int) -> ExplainedPhoto:
    picture.thumbnail((side, side))
    shares = table.crop[number].astype(np.float64) * [*picture.size, *picture.size]
    left, top, right, bottom = shares.clip(0, [*picture.size] * 2).tolist()
    cam, verdict = decode_map(row), int(table.verdict[number])
    return ExplainedPhoto(
        row["id"],
        table.name(int(table.explained[number])),
        float(row["score"]),
        row["label"],
        None if verdict == UNKNOWN else verdict == RIGHT,
        cam,
        overlay(picture, cam, box=(left, top, right, bottom), signed=bool(row["cam_zero"])),
    )
