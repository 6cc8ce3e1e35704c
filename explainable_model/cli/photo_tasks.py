"""Which photos a command explains, and where the pictures of each go."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from explainable_model.errors import InputError
from explainable_model.explainer.photos import is_single, list_files
from explainable_model.explainer.pictures import choose_stems

COLUMNS = (
    "photo",
    "class_idx",
    "class_name",
    "score",
    "probability",
    "hottest_x",
    "hottest_y",
    "panel",
    "overlay",
    "error",
)
BOX_COLUMNS = ("left", "top", "right", "bottom")


@dataclass(frozen=True)
class PhotoTask:
    """One photo and the beginning of the paths of its pictures.

    Attributes:
        photo: the file.
        target: folder and stem.
        pictures: the files that will be written.
    """

    photo: Path
    target: Path
    pictures: tuple[Path, ...]

    @property
    def is_done(self) -> bool:
        """Whether every picture is there."""
        return all(picture.exists() for picture in self.pictures)


def plan_tasks(arguments: Sequence[Path], out: Path, kinds: Sequence[str], ending: str) -> list[PhotoTask]:
    """List the photos that the arguments name: files, folders with their subfolders, and patterns.

    The pictures of a folder's photos lie in the same tree under ``out``.

    Args:
        arguments: files, folders, patterns such as ``photos/**/*.jpg``.
        out: folder for the pictures.
        kinds: of pictures: ``panel``, ``overlay``, ``methods``.
        ending: of the pictures, such as ``.png``.

    Raises:
        InputError: a folder or a pattern without a photo.
    """
    photos: dict[Path, list[Path]] = {}  # by folder of the pictures
    order: list[tuple[Path, Path]] = []
    for argument in arguments:
        for photo in [argument] if is_single(argument) else list_files(argument):
            folder = out / photo.relative_to(argument).parent if argument.is_dir() else out
            photos.setdefault(folder, []).append(photo)
            order.append((folder, photo))
    stems = {folder: iter(choose_stems(files, folder)) for folder, files in photos.items()}
    tasks = []
    for folder, photo in order:
        target = folder / next(stems[folder])
        tasks.append(PhotoTask(photo, target, tuple(Path(f"{target}-{kind}{ending}") for kind in kinds)))
    return tasks


def choose_tasks(tasks: Sequence[PhotoTask], *, skip_existing: bool, overwrite: bool) -> list[PhotoTask]:
    """Leave out the photos whose pictures are there already.

    Raises:
        InputError: pictures would be overwritten, and nothing was said about them.
    """
    if skip_existing:
        return [task for task in tasks if not task.is_done]
    existing = [picture for task in tasks for picture in task.pictures if picture.exists()]
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise InputError(
            f"{existing[0]}{more} exist already; choose another folder with --out, go on with --skip-existing, or "
            "replace them with --overwrite."
        )
    return list(tasks)


class Table(AbstractContextManager["Table"]):
    """A CSV file with a row for each photo, which is complete after every row.

    Args:
        path: the file; ``None`` for no table. It is continued where it exists and work is continued, else made anew.
        append: whether to continue the file.
        boxes: whether each row has the place of a box.
    """

    def __init__(self, path: Path | None, *, append: bool, boxes: bool = False) -> None:
        self._stream: TextIO | None = None
        if path is None:
            return
        fresh = not (append and path.exists() and path.stat().st_size > 0)
        try:
            self._stream = path.open("a" if append else "w", newline="", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}.") from error
        columns = (*COLUMNS[:-1], *BOX_COLUMNS, COLUMNS[-1]) if boxes else COLUMNS
        self._writer = csv.DictWriter(self._stream, columns, extrasaction="ignore")
        if fresh:
            self._writer.writeheader()

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the row of one photo; of each explained class or box where there are several."""
        if self._stream is None:
            return
        for row in _list_rows(record):
            self._writer.writerow(row)
        self._stream.flush()

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()


def _list_rows(record: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for explained in record.get("explained") or record.get("boxes") or [record]:
        column, row = explained.get("hottest", (None, None))
        place = dict(zip(BOX_COLUMNS, explained.get("box", ()), strict=False))
        yield {**record, **explained, **place, "hottest_x": column, "hottest_y": row}
