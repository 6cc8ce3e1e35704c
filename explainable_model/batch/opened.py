"""An artifact that is open in this process: from prepared photos to the columns of their rows."""

import hashlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from explainable_model.batch.box_rows import BoxRows
from explainable_model.batch.class_rows import ClassRows
from explainable_model.batch.prepared import Prepared
from explainable_model.errors import InputError
from explainable_model.exporters.opening import find_companion
from explainable_model.imaging.preprocess import decode_photo, upright_rgb
from explainable_model.runtime import Session, find_artifact, load

BLOCK = 1 << 20


class Opened:
    """An artifact, its preparation of photos, and threads that decode them.

    Attributes:
        session: the artifact.
        rows: what turns its answers into columns: of one class, or of boxes.
        sha256: of its file.
        decoders: threads that decode photos while the network runs.
    """

    def __init__(self, path: Path, threads: int | None, decoders: int, device: str | None, *, trusted: bool) -> None:
        self.session: Session = load(path, threads=threads, device=device, trusted=trusted)
        metadata = self.session.metadata
        if metadata.extra_inputs:
            by_box = metadata.detection is not None and metadata.detection.get("by_box")
            advice = "export it again, and leave out by_box" if by_box else "export it with a target that takes none"
            raise InputError(
                f"{path} takes {len(metadata.extra_inputs)} input(s) besides the photo, which a data set of photos "
                f"does not have; {advice}."
            )
        self.rows: ClassRows | BoxRows = (
            ClassRows(self.session) if metadata.detection is None else BoxRows(self.session)
        )
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
        preprocess = self.rows.explainer.preprocess
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
        return self.rows.explain(photos, classes, top)

    def resolve(self, text: str | None) -> int | None:
        """Find the class that a number or a name stands for; ``None`` for the predicted one, and of a detector.

        Raises:
            InputError: there is no such class, or the artifact finds boxes.
        """
        return self.rows.resolve(text)


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
        InputError: nothing says how a photo becomes its input, or it takes further inputs.
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
