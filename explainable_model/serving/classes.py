"""What is said of the explained classes of a picture."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.errors import InputError
from explainable_model.explainer.answers import TOP, Answer, describe_classes, resolve_class, split_classes
from explainable_model.explanation import PREDICTED, Explanation
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import overlay
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.serving.contract import RequestError, Response, read_text_field
from explainable_model.serving.job import Job, Settings, Wanted, draw_heatmap, make_picture_response, read_top

if TYPE_CHECKING:
    from PIL.Image import Image


class ClassReplies:
    """What is said of classes."""

    def __init__(self, metadata: Metadata, preparation: Preprocess | AsDecoded, settings: Settings) -> None:
        self._metadata, self._preparation, self._settings = metadata, preparation, settings

    def read_fields(self, fields: Mapping[str, Any]) -> Wanted:
        """Read ``class`` and ``top``; see ``Replies``."""
        if read_text_field(fields, "box") is not None:
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "box is of detectors, and this network finds no boxes; ask for a class by its number or name: class=0.",
            )
        class_idx = self._read_class(read_text_field(fields, "class"))
        return Wanted(class_idx, read_top(read_text_field(fields, "top"), TOP, self._metadata.classes))

    def describe(self, outputs: Sequence[NDArray[Any]], job: Job) -> dict[str, Any]:
        """Describe the class, the best classes and the further classes, see ``Replies``."""
        first, *others = split_classes(Explanation(*outputs[:3]))
        place = {"size": list(job.size), "box": list(self._preparation.box(*job.size))}
        record = {**self._describe(first, job.wanted.top), **draw_heatmap(first.cam[0], self._metadata), **place}
        if others:
            rows = [{**self._describe(other, 0), **draw_heatmap(other.cam[0], self._metadata)} for other in others]
            record["others"] = [{key: value for key, value in row.items() if key != "top"} for row in rows]
        return record

    def draw(self, outputs: Sequence[NDArray[Any]], job: Job, picture: "Image", told: Mapping[str, Any]) -> Response:
        """Draw the map of the first class, see ``Replies``."""
        answer, settings = split_classes(Explanation(*outputs[:3]))[0], self._settings
        record = {key: value for key, value in self._describe(answer, 0).items() if key != "top"}
        drawn = overlay(
            picture, answer.cam[0], colormap=settings.colormap, alpha=settings.alpha, box=self._preparation,
            signed=self._metadata.diverging,
        )  # fmt: skip
        return make_picture_response(drawn, {**record, **told})

    def _read_class(self, text: str | None) -> int:
        try:
            class_idx = resolve_class(text, self._metadata.class_names)
        except InputError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
        if class_idx is not None and class_idx >= self._metadata.classes:
            raise RequestError(
                HTTPStatus.BAD_REQUEST, f"The class is {class_idx}; expected 0 to {self._metadata.classes - 1}."
            )
        return PREDICTED if class_idx is None else class_idx

    def _describe(self, answer: Answer, top: int) -> dict[str, Any]:
        metadata = self._metadata
        return describe_classes(
            answer,
            metadata.class_names,
            metadata.output_kind,
            top,
            classes=metadata.classes,
            threshold=metadata.threshold,
        )
