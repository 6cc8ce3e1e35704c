"""Answers batches of HTTP requests with an artifact."""

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
from explainable_model.explainer.answers import expand_class_idx
from explainable_model.explanation import list_outputs
from explainable_model.serving.boxes import BoxReplies
from explainable_model.serving.classes import ClassReplies
from explainable_model.serving.contract import (
    JSON,
    Request,
    RequestError,
    Response,
    read_image_field,
    read_photo,
    read_text_field,
    read_window_field,
    wants_picture,
)
from explainable_model.serving.job import Job, Replies, Settings

if TYPE_CHECKING:
    from PIL.Image import Image

Run: TypeAlias = Callable[[NDArray[Any], NDArray[np.int64]], Sequence[NDArray[Any]]]
"""``(image, class_idx)`` to the outputs: a ``Session``, or a runner on another device."""

TOLD = (FirstPageWarning, LowRangeWarning)  # what an answer says of its photo

log = logging.getLogger(__name__)


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
        if metadata.extra_inputs:
            raise ArtifactError(
                f"The {metadata.format} artifact of {metadata.model} takes {len(metadata.extra_inputs)} more input(s) "
                "besides the picture; it can be run by explainable_model.load(...), not served."
            )
        self.metadata = metadata
        self.settings = settings or Settings()
        self._preprocess = preparation
        self._run = run
        self._replies: Replies = (
            ClassReplies(metadata, preparation, self.settings)
            if metadata.detection is None
            else BoxReplies(metadata, preparation, self.settings, self._call)
        )
        for _ in range(2):  # TorchScript compiles in its second call
            problem = check_reference(metadata, self._call)
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
        explanations = iter(self._explain([job for job in jobs if isinstance(job, Job)]))
        explained = time.perf_counter()
        responses = [_attempt(self._encode, job, next(explanations)) if isinstance(job, Job) else job for job in jobs]
        encoded = time.perf_counter()
        spans = (decoded - started, explained - decoded, encoded - explained)
        return responses, Durations(*(1000 * span for span in spans))

    def _decode(self, request: Request) -> Job:
        fields = request.fields
        as_picture = wants_picture(read_text_field(fields, "accept") or request.accept)
        wanted = self._replies.read_fields(fields)
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
        return Job(image, wanted, photo.size, self._shrink(photo) if as_picture else None, notes)

    def _prepare(self, photo: "Image") -> NDArray[Any]:
        return self._preprocess(photo).astype(self.metadata.array_dtype)

    def _shrink(self, photo: "Image") -> "Image":
        small = photo.copy()
        small.thumbnail((self.settings.overlay_side, self.settings.overlay_side))
        return small

    def _call(self, image: NDArray[Any], class_idx: NDArray[np.int64]) -> list[NDArray[Any]]:
        """Run the artifact; its outputs in their order."""
        return list_outputs(self._run(image, class_idx))

    def _explain(self, jobs: Sequence[Job]) -> list[list[NDArray[Any]]]:
        """Run the artifact on all jobs, in as many runs as its batch size requires; the outputs for each job."""
        size = self.metadata.batch or max(len(jobs), 1)
        answers = []
        for part in _split_by_shape(jobs, size):
            filled = [*part, *[part[-1]] * (size - len(part))]
            image = np.concatenate([job.image for job in filled])
            class_idx = np.asarray([job.wanted.class_idx for job in filled], np.int64)
            outputs = self._call(image, expand_class_idx(class_idx, self.metadata.top_k))
            answers += [[output[n : n + 1] for output in outputs] for n in range(len(part))]
        return answers

    def _encode(self, job: Job, outputs: Sequence[NDArray[Any]]) -> Response:
        if not all(np.isfinite(output).all() for output in outputs):
            raise RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "The network's answer to this picture is not finite.")
        told = {"warnings": job.warnings} if job.warnings else {}
        if job.picture is not None:
            return self._replies.draw(outputs, job, job.picture, told)
        return Response(HTTPStatus.OK, JSON, json.dumps({**self._replies.describe(outputs, job), **told}).encode())


def _split_by_shape(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Split jobs into runs of at most ``size`` neighbors whose images have the same shape."""
    parts: list[list[Job]] = []
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
