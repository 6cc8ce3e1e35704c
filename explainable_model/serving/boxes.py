"""What is said of the boxes of a picture, each with a map of its own."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.explainer.detection_defaults import DETECTION
from explainable_model.explainer.detector import artifact_detector
from explainable_model.explainer.found_boxes import FoundBoxes, find_boxes
from explainable_model.explanation import PREDICTED, as_detections
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.boxes import overlay_boxes
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.serving.contract import RequestError, Response, read_text_field
from explainable_model.serving.job import Job, Settings, Wanted, draw_heatmap, make_picture_response, read_top

if TYPE_CHECKING:
    from PIL.Image import Image


class BoxReplies:
    """What is said of boxes."""

    def __init__(
        self,
        metadata: Metadata,
        preparation: Preprocess | AsDecoded,
        settings: Settings,
        run: Callable[[NDArray[Any], Any], Sequence[NDArray[Any]]],
    ) -> None:
        self._metadata, self._settings = metadata, settings
        self._explainer = artifact_detector(
            metadata, preparation, lambda image, ranks: as_detections(run(image, ranks))
        )

    def read_fields(self, fields: Mapping[str, Any]) -> Wanted:
        """Read ``box`` and ``top``; see ``Replies``."""
        if read_text_field(fields, "class") is not None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "class is of classifiers, and this network finds boxes; ask for one of them by its rank: box=0.",
            )
        most = self._metadata.top_k or 1
        rank = self._read_rank(read_text_field(fields, "box"))
        return Wanted(rank, read_top(read_text_field(fields, "top"), most, most))

    def describe(self, outputs: Sequence[NDArray[Any]], job: Job) -> dict[str, Any]:
        """Describe each box with its map, see ``Replies``."""
        found = self._find(outputs, job)
        pairs = zip(found.list_boxes(), found.cam, strict=True)
        boxes = [{**box, **draw_heatmap(cam, self._metadata)} for box, cam in pairs]
        return {"task": DETECTION, "boxes": boxes, "size": list(job.size), "seen": list(found.box)}

    def draw(self, outputs: Sequence[NDArray[Any]], job: Job, picture: "Image", told: Mapping[str, Any]) -> Response:
        """Draw all boxes and their maps in one picture, see ``Replies``."""
        found, settings = self._find(outputs, job), self._settings
        scale = picture.width / job.size[0], picture.height / job.size[1]
        left, top, right, bottom = found.box
        seen = left * scale[0], top * scale[1], right * scale[0], bottom * scale[1]
        style: dict[str, Any] = {"colormap": settings.colormap, "alpha": settings.alpha}
        drawn = overlay_boxes(
            picture, found.cam, found.list_drawn(scale), box=seen, signed=self._metadata.diverging, **style
        )
        return make_picture_response(drawn, {"task": DETECTION, "boxes": found.list_boxes(), **told})

    def _find(self, outputs: Sequence[NDArray[Any]], job: Job) -> FoundBoxes:
        count = job.wanted.top if job.wanted.class_idx == PREDICTED else min(job.wanted.top, 1)
        return find_boxes(self._explainer, as_detections(outputs), job.image.shape, job.size, count)

    def _read_rank(self, text: str | None) -> int:
        most = self._metadata.classes - 1
        if text is None or text.strip() == str(PREDICTED):
            return PREDICTED
        short = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
        if not (short and int(text) <= most):
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                f"box is {text[:20]!r}; expected the rank of a box, 0 to {most}, or {PREDICTED} for the best boxes.",
            )
        return int(text)
