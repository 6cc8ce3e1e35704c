"""The list of a run's photos, in a file of the run folder: one row group per part."""

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.photos import Photo
from explainable_model.batch.schema import check_size, import_pyarrow
from explainable_model.errors import ArtifactError, InputError, first_line
from explainable_model.writing import StagedOutput

MANIFEST = "manifest.parquet"
AT_ONCE = 10_000  # photos that are in memory while they are listed
FIELDS = tuple(field.name for field in fields(Photo))
NUMBERS = ("first", "second")
Digests = NDArray[np.uint64]


@dataclass(frozen=True)
class Manifest:
    """The photos of a run in their order, in parts.

    Attributes:
        path: the file.
        photos: how many.
        parts: how many.
        repeated: how many were named more than once when they were listed last; each has one row.
        added, gone: how many the last listing had beyond the first, and how many it lacked.
    """

    path: Path
    photos: int
    parts: int
    repeated: int = 0
    added: int = 0
    gone: int = 0

    def read_part(self, number: int) -> list[Photo]:
        """List the photos of a part."""
        with _open(self.path) as file:
            rows = _read_group(file, number, self.path).to_pydict()
        return [Photo(*values) for values in zip(*(rows[name] for name in FIELDS), strict=True)]

    def find(self, ids: Collection[str]) -> dict[str, Photo]:
        """Look up photos by their ids; one that is not listed is left out."""
        arrow = import_pyarrow()
        import pyarrow.compute as compute

        wanted, found = arrow.array(sorted(ids), arrow.string()), dict[str, Photo]()
        with _open(self.path) as file:
            for number in range(file.num_row_groups):
                table = _read_group(file, number, self.path)
                rows = table.filter(compute.is_in(table.column("id"), wanted)).to_pydict()
                found |= {values[0]: Photo(*values) for values in zip(*(rows[name] for name in FIELDS), strict=True)}
        return found

    def iterate_ids(self) -> Iterator[list[str]]:
        """List the ids of each part."""
        with _open(self.path) as file:
            for number in range(file.num_row_groups):
                yield _read_group(file, number, self.path, ("id",)).column("id").to_pylist()


def open_manifest(folder: Path) -> Manifest | None:
    """Open the list of a run folder; ``None`` where there is none yet.

    Raises:
        ArtifactError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    with _open(path) as file:
        return Manifest(path, file.metadata.num_rows, file.num_row_groups)


def write_manifest(
    photos: Iterable[Photo], folder: Path, choose_part_rows: Callable[[int], int], tell: Callable[[int], None]
) -> Manifest:
    """List photos into a run folder; of photos with one id, the first.

    A list that is there is continued: new photos come last, and those that are gone keep their place.

    Args:
        photos: in their order.
        folder: of the run.
        choose_part_rows: from how many photos there are to how many a part has.
        tell: called with how many are listed.

    Raises:
        InputError: a photo of the run has another label, class or place than before, or as ``list_photos``.
        ArtifactError: the file cannot be written.
    """
    import pyarrow.parquet as parquet

    old = open_manifest(folder)
    known = _read_digests(old)
    target = folder / MANIFEST
    with StagedOutput(target) as staged:
        draft = staged.folder / "listed"
        ids, places = array("Q"), array("Q")
        with parquet.ParquetWriter(draft, _make_schema()) as writer:
            for chunk in _split(photos, AT_ONCE):
                writer.write_table(_to_table(chunk))
                ids.extend(_digest(photo.id) for photo in chunk)
                places.extend(_digest(*astuple(photo)) for photo in chunk)
                tell(len(ids))
        listed = np.frombuffer(ids, np.uint64), np.frombuffer(places, np.uint64)
        wanted = _choose_new(*listed, *known)
        unique = len(np.unique(listed[0]))
        gone = int((~np.isin(known[0], listed[0])).sum())
        added = int(wanted.sum())
        total, repeated = len(known[0]) + added, len(listed[0]) - unique
        if old is not None and not added:
            return Manifest(target, total, old.parts, repeated, 0, gone)
        with parquet.ParquetWriter(staged.file, _make_schema(), compression="zstd") as writer:
            parts = _copy(old, writer) + _write_parts(draft, wanted, choose_part_rows(total), writer)
        draft.unlink()
        staged.commit()
    return Manifest(target, total, parts, repeated, 0 if old is None else added, gone)


def _choose_new(ids: Digests, places: Digests, known_ids: Digests, known_places: Digests) -> NDArray[np.bool_]:
    """Which of the listed photos are new: the first of each id that the run does not know.

    Raises:
        InputError: a known photo has changed.
    """
    _, first = np.unique(ids, return_index=True)
    wanted = np.zeros(len(ids), bool)
    wanted[first] = True
    known = np.isin(ids, known_ids)
    changed = int((known & wanted & ~np.isin(places, known_places)).sum())
    if changed:
        raise InputError(
            f"{changed} photo(s) have another label, another class or another place than when the run began; choose "
            "another folder with -o, or name the photos as before."
        )
    return wanted & ~known


def _write_parts(draft: Path, wanted: NDArray[np.bool_], part_rows: int, writer: Any) -> int:
    """Copy the wanted photos of a list, one row group per part."""
    arrow = import_pyarrow()
    parts, start = 0, 0
    waiting = _make_schema().empty_table()
    with _open(draft) as file:
        for batch in file.iter_batches(AT_ONCE):
            chosen = wanted[start : start + batch.num_rows]
            start += batch.num_rows
            kept = arrow.Table.from_batches([batch]).filter(arrow.array(chosen))
            waiting = arrow.concat_tables([waiting, kept])
            while waiting.num_rows >= part_rows:
                writer.write_table(waiting.slice(0, part_rows), row_group_size=part_rows)
                waiting, parts = waiting.slice(part_rows), parts + 1
    if waiting.num_rows:
        writer.write_table(waiting, row_group_size=part_rows)
        parts += 1
    return parts


def _copy(old: Manifest | None, writer: Any) -> int:
    if old is None:
        return 0
    with _open(old.path) as file:
        for number in range(file.num_row_groups):
            writer.write_table(_read_group(file, number, old.path))
    return old.parts


def _read_digests(manifest: Manifest | None) -> tuple[Digests, Digests]:
    ids, places = array("Q"), array("Q")
    for number in range(manifest.parts if manifest else 0):
        assert manifest is not None
        for photo in manifest.read_part(number):
            ids.append(_digest(photo.id))
            places.append(_digest(*astuple(photo)))
    return np.frombuffer(ids, np.uint64), np.frombuffer(places, np.uint64)


def _digest(*values: Any) -> int:
    text = "\0".join("" if value is None else str(value) for value in values)
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _split(photos: Iterable[Photo], size: int) -> Iterator[list[Photo]]:
    iterator = iter(photos)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _make_schema() -> Any:
    arrow = import_pyarrow()
    return arrow.schema([(name, arrow.int64() if name in NUMBERS else arrow.string()) for name in FIELDS])


def _to_table(photos: Sequence[Photo]) -> Any:
    arrow = import_pyarrow()
    rows = [astuple(photo) for photo in photos]
    try:
        columns = {name: [row[n] for row in rows] for n, name in enumerate(FIELDS)}
        return arrow.table(columns, _make_schema())
    except UnicodeEncodeError as error:
        wrong = next(photo.id for photo in photos if not _is_unicode(photo))
        raise InputError(f"The name {wrong!r} is not valid Unicode, which rows need; rename the file.") from error


def _is_unicode(photo: Photo) -> bool:
    try:
        "".join(str(value) for value in astuple(photo)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _open(path: Path) -> Any:
    arrow = import_pyarrow()
    import pyarrow.parquet as parquet

    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError, arrow.ArrowException) as error:
        raise _damaged(path, error) from error


def _read_group(file: Any, number: int, path: Path, columns: Sequence[str] = FIELDS) -> Any:
    """The rows of a part, of exactly the types of the list.

    Raises:
        ArtifactError: they are damaged, or of other types.
    """
    arrow = import_pyarrow()
    import pyarrow.compute

    check_size(file.metadata, path, number)
    schema = arrow.schema([_make_schema().field(name) for name in columns])
    try:
        table = file.read_row_group(number, columns=list(columns)).select(list(columns)).cast(schema)
        table.validate(full=True)
        ids = table.column("id")
        if ids.null_count or pyarrow.compute.min(pyarrow.compute.binary_length(ids)).as_py() == 0:
            raise ValueError("a photo has no id")
        return table
    except (OSError, ValueError, KeyError, arrow.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"{path} is damaged ({first_line(error)}); remove it, and list the photos again.")
