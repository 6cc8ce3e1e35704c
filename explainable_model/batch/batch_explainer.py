"""``BatchExplainer``: columns of photos in, columns of rows out, in whatever engine calls it."""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from explainable_model.batch.columns import read_columns, write_columns
from explainable_model.batch.opened import Opened, open_once
from explainable_model.batch.photos import PARQUET, Photo, PhotoReader
from explainable_model.batch.prepared import Prepared
from explainable_model.batch.schema import make_empty_row
from explainable_model.errors import ExplainableModelError, InputError, first_line
from explainable_model.explainer.answers import TOP
from explainable_model.paths import as_path

BATCH = 8
Row = dict[str, Any]


@dataclass(frozen=True)
class Input:
    """A photo and, where it is in memory already, its content: the bytes of its file, or ``(H, W, 3)`` uint8."""

    photo: Photo
    content: Any = None


class BatchExplainer:
    """Explains photos of a data set, one row per photo. It can be pickled: only its settings travel.

    Each process opens the artifact once. A photo that cannot be explained is a row with ``error``. Needs no torch for
    ONNX.

    Args:
        artifact: a file made by ``export``; with ``upsample="none"`` its maps are small already.
        class_idx: the class to explain, by number or by name; ``None`` for the predicted class, and for a detector,
            whose row holds every box that the artifact explains.
        top: how many of the best classes a row lists.
        batch: how many photos the network gets at once.
        threads: of the runtime.
        decoders: threads that decode photos while the network runs.
        device: as of ``load``: ``cuda`` for TorchScript on a GPU.
        trusted: as of ``load``.

    Raises:
        ArtifactError, InputError, MissingRuntimeError: at the first call, as ``load``; or nothing says how a photo
            becomes the artifact's input; or a class for an artifact that finds boxes.

    Example:
        >>> rows = BatchExplainer("lite0.onnx")({"uri": ["cat.jpg"]})  # doctest: +SKIP
        >>> rows["name"]                                               # doctest: +SKIP
        ['Egyptian cat']
    """

    def __init__(
        self,
        artifact: str | Path,
        *,
        class_idx: int | str | None = None,
        top: int = TOP,
        batch: int = BATCH,
        threads: int | None = 1,
        decoders: int = 1,
        device: str | None = None,
        trusted: bool = False,
    ) -> None:
        self.artifact = as_path(artifact).absolute()
        for name, count in (("batch", batch), ("decoders", decoders), ("top", top)):
            if type(count) is not int or count < (name != "top"):
                raise InputError(f"{name} is {count!r}; expected a whole number from {int(name != 'top')} on.")
        self.class_idx = None if class_idx is None else str(class_idx)
        self.top, self.batch, self.threads, self.decoders = top, batch, threads, decoders
        self.device, self.trusted = device, trusted
        self._reader = PhotoReader()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._reader = PhotoReader()

    def open(self) -> Opened:
        """Open the artifact, once in each process.

        Raises:
            ArtifactError, InputError, MissingRuntimeError: as the class says.
        """
        opened = open_once(self.artifact, self.threads, self.decoders, self.device, trusted=self.trusted)
        opened.resolve(self.class_idx)
        return opened

    def __call__(self, columns: Any) -> Any:
        """Explain a batch of photos.

        Args:
            columns: a mapping from names to lists or arrays, a ``pandas.DataFrame``, a ``pyarrow.Table`` or a
                ``RecordBatch``, with ``uri`` (or ``path``), ``bytes`` or ``image`` (``(H, W, 3)`` uint8); optional
                ``id``, ``label`` and ``class``. Or a list of paths, of bytes, of arrays or of mappings.

        Returns:
            The columns of ``make_schema``, in the same kind: lists, a data frame or a table; a table for arrays, since
            a table knows the type of a column in which all is null.

        Raises:
            InputError: columns that hold no photos.
        """
        photos = [Input(photo, content) for photo, content in read_columns(columns)]
        return write_columns(list(self.explain(photos)), columns)

    def explain_frames(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Explain data frames, for Spark: ``df.mapInPandas(explainer.explain_frames, schema)``."""
        yield from map(self, frames)

    def explain(
        self, photos: Iterable[Input], *, careful: bool = False, tell: Callable[[str], None] | None = None
    ) -> Iterator[Row]:
        """Explain photos one after the other; few of them are in memory at a time.

        Args:
            photos: in the order of the rows.
            careful: one photo at a time, and nothing ahead.
            tell: called with the id of a photo before it is read.

        Yields:
            One row per photo, in their order.
        """
        opened = self.open()
        size = 1 if careful else opened.session.metadata.batch or self.batch
        ahead = size if careful or opened.session.metadata.pixels else 2 * size + self.decoders
        waiting: deque[tuple[Input, Future[_Job]]] = deque()
        jobs: list[_Job] = []
        for photo in photos:
            if tell is not None:
                tell(photo.photo.id)
            waiting.append((photo, self._submit(opened, photo)))
            if len(waiting) >= ahead:
                jobs.append(waiting.popleft()[1].result())
                if len(jobs) == size:
                    yield from self._explain_jobs(opened, jobs)
                    jobs = []
        jobs += [future.result() for _, future in waiting]
        for start in range(0, len(jobs), size):
            yield from self._explain_jobs(opened, jobs[start : start + size])

    def _submit(self, opened: Opened, photo: Input) -> "Future[_Job]":
        content: Any = photo.content
        if content is None and photo.photo.kind == PARQUET:  # in their order, so not by the threads
            content = _attempt(partial(self._reader.read, photo.photo))
        return opened.decoders.submit(self._prepare, opened, photo.photo, content)

    def _prepare(self, opened: Opened, photo: Photo, content: Any) -> "_Job":
        started = time.perf_counter()
        row = make_empty_row()
        row |= {"id": photo.id, "uri": photo.uri, "label": photo.label}
        row |= {"artifact": opened.sha256, "version": find_version()}
        job = _Job(row)

        def prepare() -> None:
            found = self._reader.read(photo) if content is None else content
            if isinstance(found, Exception):
                raise found
            if isinstance(found, bytes):
                row["sha256"] = hashlib.sha256(found).hexdigest()
                row["id"] = row["id"] or row["sha256"]
            asked = photo.asked if photo.asked is not None else self.class_idx
            job.class_idx = opened.resolve(asked)
            job.prepared = opened.prepare(found, photo.uri or row["id"] or "The photo")

        problem = _attempt(prepare)
        if isinstance(problem, Exception):
            row["error"] = _describe_error(problem)
        row["id"] = row["id"] or "unknown"
        job.seconds = time.perf_counter() - started
        return job

    def _explain_jobs(self, opened: Opened, jobs: Sequence["_Job"]) -> list[Row]:
        for part in _split_by_shape([job for job in jobs if job.prepared is not None]):
            if isinstance(_attempt(partial(self._fill, opened, part)), Exception):
                for job in part:  # one by one, so that the others of the batch keep their answers
                    problem = _attempt(partial(self._fill, opened, [job]))
                    if isinstance(problem, Exception):
                        job.row["error"] = _describe_error(problem)
        for job in jobs:
            job.row["milliseconds"] = 1000 * job.seconds
        return [job.row for job in jobs]

    def _fill(self, opened: Opened, jobs: Sequence["_Job"]) -> None:
        started = time.perf_counter()
        prepared = [job.prepared for job in jobs if job.prepared is not None]
        answers = opened.explain(prepared, [job.class_idx for job in jobs], self.top)
        share = (time.perf_counter() - started) / len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            job.row.update(answer)
            job.seconds += share


@dataclass
class _Job:
    """A photo on its way to its row."""

    row: Row
    prepared: Prepared | None = None
    class_idx: int | None = None
    seconds: float = 0.0


def _attempt(step: Callable[[], Any]) -> Any:
    """Do a step for one photo; an error is returned, since it must not stop the others."""
    try:
        return step()
    except Exception as error:  # decoders and runtimes raise errors of many types
        return error


def _describe_error(error: Exception) -> str:
    return str(error) if isinstance(error, ExplainableModelError) else f"{type(error).__name__}: {first_line(error)}"


def _split_by_shape(jobs: Sequence[_Job]) -> list[list[_Job]]:
    """Neighbors whose images have the same shape."""
    parts: list[list[_Job]] = []
    for job in jobs:
        assert job.prepared is not None
        last = parts[-1][-1].prepared if parts else None
        if last is None or last.image.shape != job.prepared.image.shape:
            parts.append([])
        parts[-1].append(job)
    return parts


def find_version() -> str:
    """The version of this package."""
    global _version
    if _version is None:
        from importlib.metadata import version

        _version = version("explainable-model")
    return _version


_version: str | None = None
