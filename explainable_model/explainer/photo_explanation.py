"""The answer for one photo, which can show, save and describe itself."""

import base64
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.errors import InputError
from explainable_model.explainer.answers import TOP, Answer, label_class, probabilities
from explainable_model.explainer.explained import Explained
from explainable_model.explainer.pictures import DICOM, save_answer, show_picture
from explainable_model.explanation import Explanation
from explainable_model.imaging.overlay import ALPHA, UNSEEN, heatmap, hottest_point, overlay, resize_map, round_box
from explainable_model.imaging.preprocess import Box
from explainable_model.imaging.regions import HALF, compute_share_inside, find_bounding_box
from explainable_model.imaging.sheets import panel
from explainable_model.imaging.tiles import Tile, tile_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

    from explainable_model.explainer.explainer import Explainer

PICTURES = ("panel", "overlay", "heatmap")


@dataclass(frozen=True, repr=False, eq=False)
class PhotoExplanation(Explained):
    """The prediction for one photo and the map that explains one class. Made by ``explain``; notebooks show it.

    Attributes:
        photo: RGB, upright.
        name: of the photo, for captions.
        path: the photo's file, if it has one.
        cam: ``(h, w)`` float, in [0, 1]; in [-1, 1] for a signed map.
        logits: the network's own output for the photo, ``(classes,)`` or as it is.
        class_idx: the class that is explained.
        box: the part of the photo that the map covers: left, top, right, bottom in pixels.
        explainer: what explained it.
    """

    photo: "Image"
    name: str
    path: Path | None
    cam: NDArray[Any]
    logits: NDArray[Any]
    class_idx: int
    box: Box
    explainer: "Explainer"

    @property
    def class_name(self) -> str | None:
        """Name of the explained class; ``None`` where no names are known."""
        names = self.explainer.class_names
        return None if names is None else names[self.class_idx]

    @property
    def score(self) -> float | None:
        """The network's own output for the explained class, summed over pixels."""
        score: float | None = self._describe()["score"]
        return score

    @property
    def probability(self) -> float | None:
        """Probability of the explained class; ``None`` where the output has none."""
        probability: float | None = self._describe()["probability"]
        return probability

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Probability of each class, ``(classes,)``; ``None`` where the output has none."""
        return probabilities(self.logits[None], self.explainer.output_kind)

    @property
    def label(self) -> str:
        """The explained class in words: ``Egyptian cat, 79%``."""
        return label_class(self._describe())

    @property
    def hottest(self) -> tuple[float, float]:
        """Where in the photo the map is largest: ``(column, row)`` in pixels."""
        return hottest_point(self.cam, self.box)

    def top(self, count: int = TOP) -> list[dict[str, Any]]:
        """List the best classes: ``class_idx``, ``class_name``, ``score`` and ``probability`` of each."""
        best: list[dict[str, Any]] = self._describe(count)["top"]
        return best

    def find_bounding_box(self, threshold: float = HALF) -> Box | None:
        """Find the box in the photo that holds every value of the map from a share of its maximum on."""
        return find_bounding_box(self.cam, self.box, threshold)

    def compute_share_inside(self, mask: ArrayLike) -> float | None:
        """Compute the share of the map inside a mask of the photo.

        Args:
            mask: ``(H, W)`` of the photo's size; any value but zero is inside. Only the part that the network saw
                counts.

        Raises:
            InputError: a mask of another size, or without a value inside the part that the network saw.
        """
        inside = np.asarray(mask) != 0
        if inside.shape != self.photo.size[::-1]:
            raise InputError(f"The mask has shape {inside.shape}; expected {self.photo.size[::-1]}, that of the photo.")
        left, top, right, bottom = region = round_box(self.box, self.photo.size)
        values = resize_map(self.cam.clip(0), region)
        return compute_share_inside(values, inside[top:bottom, left:right])

    def overlay(self, *, colormap: str | None = None, alpha: float = ALPHA, **masking: Any) -> "Image":
        """Draw the photo under its map; the arguments are those of ``imaging.overlay.overlay``."""
        style = {"colormap": colormap, "alpha": alpha, "box": self.box, "signed": self.explainer.signed, **masking}
        return overlay(self.photo, self.cam, **style)

    def heatmap(self, colormap: str | None = None) -> "Image":
        """Draw the map alone, at the photo's size; what the network did not see is gray."""
        from PIL import Image

        region = round_box(self.box, self.photo.size)
        values = resize_map(self.cam, region, signed=self.explainer.signed)
        scaled = 2 * values - 1 if self.explainer.signed else values
        picture = Image.new("RGB", self.photo.size, UNSEEN)
        picture.paste(Image.fromarray(heatmap(scaled, colormap, signed=self.explainer.signed)), region[:2])
        return picture

    def panel(self, *, caption: str | None = None, **style: Any) -> "Image":
        """Draw photo, heatmap and overlay side by side, with class, method, layer and a color bar."""
        return panel(
            self.photo,
            self.cam,
            f"{self.name}: {self.label}" if caption is None else caption,
            self.box,
            signed=self.explainer.signed,
            note=self.explainer.describe_method(),
            **style,
        )

    def show(self, **style: Any) -> None:
        """Show the panel: in the notebook, else in the system's viewer of pictures.

        Raises:
            InputError: there is no viewer.
        """
        show_picture(self.panel(**style))

    def save(self, path: str | Path, picture: str = "panel", *, keep_patient: bool = False, **style: Any) -> Path:
        """Write a picture; the ending of the path chooses PNG, JPEG, WebP or DICOM.

        A DICOM file is a Secondary Capture image without a patient: no name, no file name in the caption, and no UID of
        the source.

        Args:
            path: the file.
            picture: ``panel``, ``overlay`` or ``heatmap``.
            keep_patient: copies the patient and the study of a source in DICOM into a DICOM file, and refers to it.
            style: of that picture.

        Raises:
            InputError: another picture or ending, or ``keep_patient`` without DICOM.
            MissingRuntimeError: DICOM without pydicom.
            ArtifactError: a file that cannot be written.
        """
        if picture not in PICTURES:
            raise InputError(f"picture is {picture!r}; expected one of {', '.join(PICTURES)}.")
        path = Path(path)
        if picture == "panel" and path.suffix.lower() == DICOM and not keep_patient:
            style.setdefault("caption", self.label)
        comment = f"{self.label}; {self.explainer.describe_method()}."
        drawn = getattr(self, picture)(**style)
        return save_answer(drawn, path, source=self.path, keep_patient=keep_patient, comment=comment)

    def to_dict(self) -> dict[str, Any]:
        """Describe the answer for JSON: the class, where its map is large, how it was made, the best classes."""
        described = self._describe()
        best = described.pop("top")
        bounds = self.find_bounding_box()
        where = {"hottest": list(self.hottest), "bounding_box": None if bounds is None else list(bounds)}
        made = {"box": list(self.box), "method": self.method, "layers": list(self.layers)}
        return {"photo": str(self.path or self.name), **described, **where, **made, "top": best}

    def to_row(self) -> dict[str, Any]:
        """Describe the answer in one row of a table, for ``csv.DictWriter`` or a data frame."""
        described = self._describe()
        described.pop("top")
        column, row = self.hottest
        bounds = dict(zip(("left", "top", "right", "bottom"), self.find_bounding_box() or (None,) * 4, strict=True))
        made = {"method": self.method, "layers": " ".join(self.layers)}
        return {
            "photo": str(self.path or self.name),
            **described,
            "hottest_x": column,
            "hottest_y": row,
            **bounds,
            **made,
        }

    def to_json(self) -> str:
        """Write ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.cam, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        height, width = self.cam.shape
        return f"<{self.name}: {self.label}; {self.explainer.describe_method()}; map {height} x {width}>"

    def _repr_png_(self) -> bytes:
        return _encode(self.panel())

    def _repr_html_(self) -> str:
        kind = self.explainer.output_kind
        rows = "".join(f"<li>{html.escape(label_class({'output_kind': kind, **row}))}</li>" for row in self.top())
        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<img alt="{html.escape(repr(self))}" src="data:image/png;base64,{picture}"><ol>{rows}</ol>'

    def _describe(self, count: int = TOP) -> dict[str, Any]:
        answer: Answer = Explanation(self.logits[None], np.asarray([self.class_idx]), self.cam[None])
        return self.explainer.describe(answer, count)


class PhotoExplanations(tuple[PhotoExplanation, ...]):
    """Several answers, which are shown side by side: the classes of one photo, several methods, several photos."""

    __slots__ = ()

    def panel(self, *, names: bool = True, **style: Any) -> "Image":
        """Draw the overlays in rows, each with its name, its class and its method; without the names on request."""
        titles = [f"{each.name}: {each.label}" if names else each.label for each in self]
        return tile_sheet(
            [
                Tile(each.overlay(**style), title, each.explainer.describe_method())
                for each, title in zip(self, titles, strict=True)
            ]
        )

    def show(self, **style: Any) -> None:
        """Show the overlays, as ``PhotoExplanation.show``."""
        show_picture(self.panel(**style))

    def save(self, path: str | Path, **style: Any) -> Path:
        """Write the overlays in one picture, as ``PhotoExplanation.save``; DICOM names no file and no patient."""
        path = Path(path)
        if path.suffix.lower() == DICOM:
            style.setdefault("names", False)
        return save_answer(self.panel(**style), path)

    def to_dicts(self) -> list[dict[str, Any]]:
        """Describe each answer, as ``PhotoExplanation.to_dict``."""
        return [each.to_dict() for each in self]

    def _repr_png_(self) -> bytes:
        return _encode(self.panel())


def _encode(picture: "Image") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", compress_level=1)
    return stream.getvalue()
