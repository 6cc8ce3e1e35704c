"""An artifact that is open in this process: from prepared photos to the columns of their rows."""

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.limits import check_volume
from explainable_model.batch.map_measures import describe_map
from explainable_model.batch.schema import PROBABILITY, SCORE
from explainable_model.batch.small_maps import SmallMaps, find_small_maps
from explainable_model.errors import InputError
from explainable_model.explainer.answers import expand_class_idx, resolve_class
from explainable_model.explainer.explainer import Explainer, session_explainer
from explainable_model.explanation import PREDICTED, Explanation
from explainable_model.exporters.opening import find_companion
from explainable_model.imaging.preprocess import Box, decode_photo, upright_rgb
from explainable_model.runtime import Session, find_artifact, load

BLOCK = 1 << 20


@dataclass(frozen=True)
class Prepared:
    """A photo that is ready for the network.

    Attributes:
        image: ``(1, C, H, W)``, or as the artifact takes photos.
        size: width and height of the upright photo.
        crop: the part of it that the map covers.
    """

    image: NDArray[Any]
    size: tuple[int, int]
    crop: Box


class Opened:
    """An artifact, its preparation of photos, and threads that decode them.

    Attributes:
        session: the artifact.
        explainer: what describes its answers.
        small_maps: how its maps become small.
        sha256: of its file.
        decoders: threads that decode photos while the network runs.
    """

    def __init__(self, path: Path, threads: int | None, decoders: int, device: str | None, *, trusted: bool) -> None:
        self.session: Session = load(path, threads=threads, device=device, trusted=trusted)
        self.explainer: Explainer = session_explainer(self.session)
        metadata = self.session.metadata
        if metadata.extra_inputs:
            raise InputError(
                f"{path} takes {len(metadata.extra_inputs)} input(s) besides the photo, which a data set of photos "
                "does not have; export it with a target that takes none."
            )
        self.small_maps: SmallMaps = find_small_maps(metadata, lambda *probe: self._run(*probe)[2])
        self.sha256 = hash_artifact(path)
        self.decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")

    def prepare(self, photo: "bytes | NDArray[Any]", name: str) -> Prepared:
        """Decode a photo and turn it into the network's input.

        Args:
            photo: the bytes of its file, or ``(H, W, 3)`` or ``(H, W)`` uint8.
            name: for messages.

        Raises:
            InputError: it cannot be read.
        """
        preprocess = self.explainer.preprocess
        if isinstance(photo, bytes):
            picture = decode_photo(photo, name, preprocess.window)
        else:
            from explainable_model.explainer.photos import read_photo

            picture = upright_rgb(read_photo(photo, window=preprocess.window).picture)
        image = preprocess(picture).astype(self.session.metadata.array_dtype, copy=False)
        inner = self.session.metadata.preprocess or preprocess
        return Prepared(image, picture.size, inner.box(*picture.size))

    def explain(self, photos: Sequence[Prepared], classes: Sequence[int | None], top: int) -> list[dict[str, Any]]:
        """Run the artifact on photos of one shape, and describe each answer in the columns of a row.

        Raises:
            InputError: an answer that is not finite; or as ``Session``.
        """
        images = np.concatenate([photo.image for photo in photos])
        class_idx = np.asarray([PREDICTED if idx is None else idx for idx in classes], np.int64)
        logits, explained, maps = self._run(images, class_idx)
        whole = self.session.metadata.pixels is not None  # the maps cover the whole photo, and not the crop alone
        small = self.small_maps.reduce(maps, [photo.crop if whole else None for photo in photos])
        return [
            self._describe(Explanation(logits[n : n + 1], explained[n : n + 1], small[n : n + 1]), photo, top)
            for n, photo in enumerate(photos)
        ]

    def resolve(self, text: str | None) -> int | None:
        """Find the class that a number or a name stands for; ``None`` for the predicted one.

        Raises:
            InputError: there is no such class.
        """
        class_idx = resolve_class(text, self.explainer.class_names)
        classes = self.session.metadata.classes
        if class_idx is not None and class_idx >= classes:
            raise InputError(f"The class is {class_idx}; expected 0 to {classes - 1}.")
        return class_idx

    def _run(self, images: NDArray[Any], class_idx: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Answers for images of one shape; an artifact of a fixed batch runs as often as needed."""
        metadata = self.session.metadata
        size = metadata.batch or len(images)
        check_volume((size, *images.shape[1:]), 1, self.session.path)
        outputs = []
        for start in range(0, len(images), size):
            part = _fill(images[start : start + size], size)
            classes = expand_class_idx(_fill(class_idx[start : start + size], size), metadata.top_k)
            logits, explained, maps = self.session(part, classes)[:3]
            outputs.append((logits, explained, maps) if explained.ndim == 1 else (logits, explained[:, 0], maps[:, 0]))
        return tuple(np.concatenate(parts)[: len(images)] for parts in zip(*outputs, strict=True))

    def _describe(self, answer: Explanation[NDArray[Any]], photo: Prepared, top: int) -> dict[str, Any]:
        if not (np.isfinite(answer.logits).all() and np.isfinite(answer.cam).all()):
            raise InputError("The network's answer to this photo is not finite.")
        record = self.explainer.describe(answer, top)
        kind = SCORE if record["probability"] is None else PROBABILITY
        best = [{"class": r["class_idx"], "name": r["class_name"], "score": r[kind]} for r in record["top"]]
        return {
            "width": photo.size[0],
            "height": photo.size[1],
            "class": record["class_idx"],
            "name": record["class_name"],
            "score": record[kind],
            "score_kind": kind,
            "top_k": best,
            **describe_map(answer.cam[0], photo.crop, signed=self.explainer.signed),
        }


def _fill(values: NDArray[Any], size: int) -> NDArray[Any]:
    return values if len(values) == size else np.concatenate([values, np.repeat(values[-1:], size - len(values), 0)])


def hash_artifact(path: Path) -> str:
    """Compute the SHA-256 of an artifact's file; of two files, of one after the other."""
    _, fmt = find_artifact(path)
    digest = hashlib.sha256()
    for file in filter(None, (path, find_companion(path, fmt))):
        with open(file, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


_lock = threading.Lock()
_OPENED: dict[tuple[Any, ...], Opened] = {}
MOST_OPEN = 4


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # a thread may have held it
    os.register_at_fork(after_in_child=_renew_lock)


def open_once(path: Path, threads: int | None, decoders: int, device: str | None, *, trusted: bool) -> Opened:
    """Open an artifact, or take the one that is open in this process.

    Raises:
        ArtifactError, MissingRuntimeError: as ``load``.
        InputError: nothing says how a photo becomes its input, it takes further inputs, or it finds boxes.
    """
    path = find_artifact(path)[0].absolute()
    status = os.stat(path)
    # A process that was forked has no threads of the one before, so it opens the artifact itself.
    key = (os.getpid(), path, status.st_mtime_ns, status.st_size, threads, decoders, device, trusted)
    with _lock:
        if key not in _OPENED:
            _OPENED[key] = Opened(path, threads, decoders, device, trusted=trusted)
        for old in list(_OPENED)[:-MOST_OPEN]:  # a process that explains by one artifact after the other
            del _OPENED[old]
        return _OPENED[key]
