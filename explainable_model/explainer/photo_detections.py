"""The boxes that a detector found in one photo, each with its own map, which can show, save and describe themselves."""

import html
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import DETECTION
from explainable_model.explainer.detector import DetectorExplainer
from explainable_model.explainer.found_boxes import FoundBoxes, find_boxes
from explainable_model.explainer.photos import OpenedPhoto
from explainable_model.explainer.pictures import DICOM, PhotoRequest, save_answer, show_picture
from explainable_model.imaging.boxes import overlay_boxes, sheet_boxes

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURES = ("panel", "overlay")


@dataclass(frozen=True, repr=False, eq=False)
class PhotoDetections(FoundBoxes):
    """The boxes of one photo, and a map that explains each. Made by ``explain``; notebooks show it.

    Attributes:
        boxes, scores, labels, cam, box, explainer: as of ``FoundBoxes``.
        photo: RGB, upright.
        name: of the photo, for captions.
        path: the photo's file, if it has one.
    """

    photo: "Image"
    name: str
    path: Path | None

    def overlay(self, *, colormap: str | None = None, **style: Any) -> "Image":
        """Draw all boxes with their maps in one picture, see ``imaging.boxes.overlay_boxes``."""
        return overlay_boxes(self.photo, self.cam, self.list_drawn(), box=self.box, **self._signed(colormap, style))

    def panel(self, *, caption: str | None = None, colormap: str | None = None, **style: Any) -> "Image":
        """Draw a sheet: all boxes in the first tile, then a tile for each box with its own map."""
        heading = f"{self.name}: {self.explainer.describe_method()}" if caption is None else caption
        return sheet_boxes(
            self.photo, self.cam, self.list_drawn(), box=self.box, heading=heading, **self._signed(colormap, style)
        )

    def show(self, **style: Any) -> None:
        """Show the sheet: in the notebook, else in the system's viewer of pictures.

        Raises:
            InputError: there is no viewer.
        """
        show_picture(self.panel(**style))

    def save(self, path: str | Path, picture: str = "panel", *, keep_patient: bool = False, **style: Any) -> Path:
        """Write a picture, as ``PhotoExplanation.save``.

        Args:
            path: the file; its ending chooses the format.
            picture: ``panel`` or ``overlay``.
            keep_patient: as of ``PhotoExplanation.save``.
            style: of that picture.

        Raises:
            InputError, MissingRuntimeError, ArtifactError: as ``PhotoExplanation.save``.
        """
        if picture not in PICTURES:
            raise InputError(f"picture is {picture!r}; expected one of {', '.join(PICTURES)}.")
        path = Path(path)
        if picture == "panel" and path.suffix.lower() == DICOM and not keep_patient:
            style.setdefault("caption", self.explainer.describe_method())
        comment = f"{self.label}; {self.explainer.describe_method()}."
        drawn = getattr(self, picture)(**style)
        return save_answer(drawn, path, source=self.path, keep_patient=keep_patient, comment=comment)

    def to_dict(self) -> dict[str, Any]:
        """Describe the boxes for JSON: place, class and score of each, and where its map is largest."""
        made = {"seen": list(self.box), "method": self.method, "layers": list(self.layers)}
        return {"photo": str(self.path or self.name), "task": DETECTION, "boxes": self.list_boxes(), **made}

    def to_json(self) -> str:
        """Write ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __repr__(self) -> str:
        return f"<{self.name}: {self.label}; {self.explainer.describe_method()}>"

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.panel().save(stream, format="PNG", compress_level=1)
        return stream.getvalue()

    def _repr_html_(self) -> str:
        import base64

        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<img alt="{html.escape(repr(self))}" src="data:image/png;base64,{picture}">'

    def _signed(self, colormap: str | None, style: dict[str, Any]) -> dict[str, Any]:
        return {"colormap": colormap, **({"signed": True} if self.explainer.signed else {}), **style}


def explain_boxes(
    explainer: DetectorExplainer, opened: OpenedPhoto, ranks: NDArray[np.int64] | None = None
) -> PhotoDetections:
    """Find boxes in one photo, and explain each.

    Args:
        explainer: the detector.
        opened: the photo.
        ranks: ``(k,)`` of the boxes to explain; ``None`` for the best.
    """
    image = explainer.preprocess(opened.picture)
    wanted = None if ranks is None else np.asarray(ranks, np.int64)[None]
    answer = explainer.run(image, wanted)
    count = None if ranks is None else len(ranks)
    found = find_boxes(explainer, answer, image.shape, opened.picture.size, count)
    return PhotoDetections(**vars(found), photo=opened.picture, name=opened.name, path=opened.path)


def explain_photo_boxes(explainer: DetectorExplainer, request: PhotoRequest) -> dict[str, Any]:
    """Explain the boxes of one photo and write both pictures, as ``explain_photo``.

    Raises:
        InputError: a class was asked for.
    """
    if request.class_idx is not None:
        raise InputError("A class was asked for; a detector explains the boxes that it finds. Leave out --class.")
    found, style = explain_boxes(explainer, OpenedPhoto(request.photo, request.path, request.path.name)), request.style
    drawing = {"alpha": style.alpha, "threshold": style.threshold, "hide": style.hide, "colormap": style.colormap}
    files = {
        kind: found.save(request.name_file(kind), kind, keep_patient=request.keep_patient, **drawing)
        for kind in PICTURES
    }
    return {**found.to_dict(), **{kind: str(file) for kind, file in files.items()}}
