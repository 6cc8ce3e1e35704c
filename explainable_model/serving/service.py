"""Answers batches of HTTP requests with an artifact."""

import base64
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.limits import check_volume
from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.reference import check_reference
from explainable_model.artifact.shapes import spatial
from explainable_model.errors import ArtifactError, FirstPageWarning, InputError, LowRangeWarning
from explainable_model.explainer.answers import (
    TOP,
    Answer,
    describe_classes,
    expand_class_idx,
    resolve_class,
    split_classes,
)
from explainable_model.explanation import PREDICTED, Explanation
from explainable_model.imaging.overlay import ALPHA, Colormap, overlay
from explainable_model.serving.contract import (
    JSON,
    PNG,
    Request,
    RequestError,
    Response,
    read_image_field,
    read_photo,
    read_text_field,
    read_window_field,
    wants_picture,
)

if TYPE_CHECKING:
    from PIL.Image import Image

Run: TypeAlias = Callable[[NDArray[Any], NDArray[np.int64]], Sequence[NDArray[Any]]]
"""``(image, class_idx) -> (logits, class_idx, cam)``: a ``Session``, or a runner on another device."""

TOLD = (FirstPageWarning, LowRangeWarning)  # what an answer says of its photo

EXPLANATION_HEADER = "X-Explanation"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The settings of a deployer.

    Attributes:
        max_pixels: a picture with more pixels is refused before it is decoded.
        overlay_side: longest side of an overlay, so that a batch does not wait for a large one.
        colormap: of the overlays; a palette where matplotlib is not installed, ``None`` for the default of the maps.
        alpha: of the heatmap in the overlays.
    """

    max_pixels: int = 25_000_000
    overlay_side: int = 1024
    colormap: Colormap | None = None
    alpha: float = ALPHA


@dataclass(frozen=True)
class Durations:
    """Milliseconds that one batch took, in total.

    Attributes:
        decode: bytes to input.
        explain: the artifact itself.
        encode: explanation to bytes.
    """

    decode: float
    explain: float
    encode: float


@dataclass(frozen=True)
class _Job:
    """A decoded request."""

    image: NDArray[Any]  # (1, C, H, W)
    class_idx: int
    top: int
    size: tuple[int, int]  # width, height of the photo
    picture: "Image | None"  # under the overlay, where the client asks for one
    warnings: list[str]  # why the answer may not help


class Service:
    """Answers a batch of requests with as many responses, each with its own status."""

    def __init__(self, run: Run, metadata: Metadata, settings: Settings | None = None) -> None:
        """Check the artifact against its recorded answer on this machine, which also warms it up.

        Args:
            run: the artifact in its runtime.
            metadata: the artifact's.
            settings: of the deployer.

        Raises:
            ArtifactError: the artifact does not take pictures, takes more than a picture, does not say how a picture
                becomes its input, or does not reproduce its recorded answer.
        """
        preparation = metadata.preparation
        if preparation is None or len(spatial(metadata.image_shape, metadata.pixels)) != 2:
            raise ArtifactError(
                f"The {metadata.format} artifact of {metadata.model} does not say how a picture becomes its input; "
                "export it with preprocess=Preprocess(...)."
            )
        if metadata.detection is not None:
            raise ArtifactError(
                f"The {metadata.format} artifact of {metadata.model} finds boxes, which the server does not send; it "
                "can be run by explainable_model.load(...) and explain(...), not served."
            )
        if metadata.extra_inputs:
            raise ArtifactError(
                f"The {metadata.format} artifact of {metadata.model} takes {len(metadata.extra_inputs)} more input(s) "
                "besides the picture; it can be run by explainable_model.load(...), not served."
            )
        self.metadata = metadata
        self.settings = settings or Settings()
        self._preprocess = preparation
        self._run = run
        for _ in range(2):  # TorchScript compiles in its second call
            problem = check_reference(metadata, run)
            if problem:
                raise ArtifactError(
                    f"The {metadata.format} artifact of {metadata.model} does not reproduce its recorded answer on "
                    f"this machine: {problem}. Export it again, or use another version of its runtime."
                )

    def answer(self, requests: Sequence[Request]) -> tuple[list[Response], Durations]:
        """Answer a batch.

        An error in one request becomes its response. An error of the artifact concerns the whole batch and is raised.
        """
        started = time.perf_counter()
        jobs = [_attempt(self._decode, request) for request in requests]
        decoded = time.perf_counter()
        explanations = iter(self._explain([job for job in jobs if isinstance(job, _Job)]))
        explained = time.perf_counter()
        responses = [_attempt(self._encode, job, next(explanations)) if isinstance(job, _Job) else job for job in jobs]
        encoded = time.perf_counter()
        spans = (decoded - started, explained - decoded, encoded - explained)
        return responses, Durations(*(1000 * span for span in spans))

    def _decode(self, request: Request) -> _Job:
        fields = request.fields
        as_picture = wants_picture(read_text_field(fields, "accept") or request.accept)
        class_idx, top = (
            self._read_class(read_text_field(fields, "class")),
            self._read_top(read_text_field(fields, "top")),
        )
        window = read_window_field(fields) or self._preprocess.window
        with warnings.catch_warnings(record=True) as caught:
            for kind in TOLD:
                warnings.simplefilter("always", kind)
            photo = read_photo(read_image_field(fields), self.settings.max_pixels, window)
        notes = [str(warning.message) for warning in caught if warning.category in TOLD]
        image = self._prepare(photo)
        try:
            check_volume(image.shape, self.metadata.batch or 1, "The artifact")
        except InputError as error:
            raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
        return _Job(image, class_idx, top, photo.size, self._shrink(photo) if as_picture else None, notes)

    def _prepare(self, photo: "Image") -> NDArray[Any]:
        return self._preprocess(photo).astype(self.metadata.array_dtype)

    def _shrink(self, photo: "Image") -> "Image":
        small = photo.copy()
        small.thumbnail((self.settings.overlay_side, self.settings.overlay_side))
        return small

    def _read_class(self, text: str | None) -> int:
        try:
            class_idx = resolve_class(text, self.metadata.class_names)
        except InputError as error:
            raise RequestError(HTTPStatus.BAD_REQUEST, str(error)) from error
        if class_idx is not None and class_idx >= self.metadata.classes:
            raise RequestError(
                HTTPStatus.BAD_REQUEST, f"The class is {class_idx}; expected 0 to {self.metadata.classes - 1}."
            )
        return PREDICTED if class_idx is None else class_idx

    def _read_top(self, text: str | None) -> int:
        if text is None:
            return TOP
        short = text.isascii() and text.isdecimal() and len(text) <= len(str(self.metadata.classes))
        if not (short and int(text) <= self.metadata.classes):
            raise RequestError(
                HTTPStatus.BAD_REQUEST, f"top is {text[:20]!r}; expected a number from 0 to {self.metadata.classes}."
            )
        return int(text)

    def _explain(self, jobs: Sequence[_Job]) -> list[Answer]:
        """Run the artifact on all jobs, in as many runs as its batch size requires."""
        size = self.metadata.batch or max(len(jobs), 1)
        answers = []
        for part in _split_by_shape(jobs, size):
            filled = [*part, *[part[-1]] * (size - len(part))]
            image = np.concatenate([job.image for job in filled])
            class_idx = np.asarray([job.class_idx for job in filled], np.int64)
            outputs = self._run(image, expand_class_idx(class_idx, self.metadata.top_k))[:3]
            answers += [Explanation(*(output[n : n + 1] for output in outputs)) for n in range(len(part))]
        return answers

    def _encode(self, job: _Job, answer: Answer) -> Response:
        if not (np.isfinite(answer.cam).all() and np.isfinite(answer.logits).all()):
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "The network's answer to this picture is not finite.")
        first, *others = split_classes(answer)
        record = self._describe(first, job.top)
        if job.warnings:
            record["warnings"] = job.warnings
        if job.picture is not None:
            headers = {EXPLANATION_HEADER: json.dumps({key: value for key, value in record.items() if key != "top"})}
            return Response(HTTPStatus.OK, PNG, _encode_png(self._draw_overlay(job.picture, first.cam[0])), headers)
        record |= {**self._draw_heatmap(first), "size": list(job.size), "box": list(self._preprocess.box(*job.size))}
        if others:
            rows = [{**self._describe(other, 0), **self._draw_heatmap(other)} for other in others]
            record["others"] = [{key: value for key, value in row.items() if key != "top"} for row in rows]
        return Response(HTTPStatus.OK, JSON, json.dumps(record).encode())

    def _describe(self, answer: Answer, top: int) -> dict[str, Any]:
        metadata = self.metadata
        return describe_classes(
            answer,
            metadata.class_names,
            metadata.output_kind,
            top,
            classes=metadata.classes,
            threshold=metadata.threshold,
        )

    def _draw_heatmap(self, answer: Answer) -> dict[str, Any]:
        """Draw the map in 8 bits, and name the values of 0 and 255: the artifact's bounds, or else the map's own."""
        from PIL import Image

        cam = answer.cam[0]
        low, high = self.metadata.cam_range
        low = float(cam.min()) if low is None else low
        high = float(cam.max()) if high is None else high
        gray = (cam.astype(np.float64) - low) / max(high - low, 1e-30) * 255
        picture = Image.fromarray(gray.round().clip(0, 255).astype(np.uint8))
        return {"heatmap": base64.b64encode(_encode_png(picture)).decode(), "range": [low, high]}

    def _draw_overlay(self, picture: "Image", cam: NDArray[Any]) -> "Image":
        settings = self.settings
        return overlay(
            picture, cam, colormap=settings.colormap, alpha=settings.alpha, box=self._preprocess,
            signed=self.metadata.diverging,
        )  # fmt: skip


def _split_by_shape(jobs: Sequence[_Job], size: int) -> list[list[_Job]]:
    """Split jobs into runs of at most ``size`` neighbors whose images have the same shape."""
    parts: list[list[_Job]] = []
    for job in jobs:
        if not parts or len(parts[-1]) == size or parts[-1][0].image.shape != job.image.shape:
            parts.append([])
        parts[-1].append(job)
    return parts


def _attempt(step: Callable[..., Any], *arguments: Any) -> Any:
    """Run a step on one request; an error becomes the response."""
    try:
        return step(*arguments)
    except RequestError as error:
        return error.response()
    except Exception:  # an unexpected error must not fail the other requests of the batch
        log.exception("a request failed")
        return RequestError(
            HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed on this request; see its log."
        ).response()


def _encode_png(picture: "Image") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
