"""Lists the photos that a user names: folders, patterns, files, tables of paths, tars, Parquet files, stores."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from explainable_model.batch.photos import Photo
from explainable_model.batch.stores import Stores, drop_options, is_address, locate
from explainable_model.batch.tables import list_parquet, list_table
from explainable_model.batch.tars import list_tar
from explainable_model.errors import InputError
from explainable_model.explainer.photos import ENDINGS

SHARDS: dict[str, Callable[[str], Iterator[Photo]]] = {
    ".csv": list_table,
    ".tar": list_tar,
    ".parquet": list_parquet,
}
WILDCARDS = frozenset("*?[")


def list_photos(sources: Sequence[str | Path], *, folder_labels: bool = False) -> Iterator[Photo]:
    """List photos, one after the other; none of them is read.

    Args:
        sources: files; folders with their subfolders; patterns such as ``photos/**/*.jpg``; tables of paths (``.csv``);
            WebDataset tars (``.tar``); tables that hold the photos' bytes (``.parquet``); any of these in a store
            (``s3://bucket/photos``).
        folder_labels: whether the name of a photo's folder is its label.

    Raises:
        InputError: a source that is not there, or without a photo; a compressed tar; a table without its columns.
        MissingRuntimeError: a Parquet file or a store without pyarrow.
    """
    if not sources:
        raise InputError("There are no photos; expected a folder, files, a pattern, a .csv, a .tar or a .parquet.")
    for source in sources:
        text = os.fspath(source)
        found = _list_store(text) if is_address(text) else _list_local(text)
        first = next(found, None)
        if first is None:
            raise InputError(_say_empty(text))
        yield _label(first, folder_labels)
        for photo in found:
            yield _label(photo, folder_labels)


def _list_local(text: str) -> Iterator[Photo]:
    if os.path.isdir(text):
        yield from map(_make_photo, _walk(text))
    elif os.path.exists(text):
        yield from _list_file(text)
    elif WILDCARDS & set(text):
        for name in sorted(glob.glob(text, recursive=True)):
            if os.path.isfile(name):
                yield from _list_file(name)
    else:
        raise InputError(f"There is no file {text}.")


def _list_file(path: str) -> Iterator[Photo]:
    shard = SHARDS.get(Path(path).suffix.lower())
    if shard is None:
        yield _make_photo(path)
    else:
        yield from shard(path)


def _make_photo(path: str) -> Photo:
    name, uri, container = locate(path)
    return Photo(name, uri, container=container)


def _walk(folder: str, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """The photos of a folder and its subfolders, sorted by the parts of their paths; one folder's names in memory.

    Links are followed, but for one that leads into a folder above itself. A link that leads nowhere is listed where its
    name is a photo's: its row says so.
    """
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(), _may_be_photo(entry)) for entry in entries)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for name, is_folder, may_be_photo in names:
        path = os.path.join(folder, name)
        if is_folder:
            yield from _walk(path, above | {here})
        elif may_be_photo:
            yield path


def _may_be_photo(entry: "os.DirEntry[str]") -> bool:
    if os.path.splitext(entry.name)[1].lower() not in ENDINGS:
        return False
    return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))


def _list_store(address: str) -> Iterator[Photo]:
    stores = Stores()
    for name, named in stores.list_files(address):
        ending = os.path.splitext(drop_options(name))[1].lower()
        if named and ending in SHARDS:
            yield from SHARDS[ending](name)
        elif named or ending in ENDINGS:
            yield _make_photo(name)


def _label(photo: Photo, folder_labels: bool) -> Photo:
    if not folder_labels or photo.label is not None:
        return photo
    place = photo.id.replace("#", "/").rsplit("/", 2)
    return with_label(photo, place[-2]) if len(place) > 1 else photo


def with_label(photo: Photo, label: str) -> Photo:
    """The same photo with a label."""
    return replace(photo, label=label)


def _say_empty(text: str) -> str:
    if os.path.isdir(text):
        shards = sorted({Path(name).suffix for name in os.listdir(text)} & set(SHARDS))
        if shards:
            return f"The folder {text} holds no photo, but {shards[0]} files; give them as '{text}/*{shards[0]}'."
        return f"The folder {text} holds no photo; expected files ending in {', '.join(sorted(ENDINGS))}."
    if WILDCARDS & set(text) and not os.path.exists(text):
        return f"No file matches {text}."
    return f"{text} holds no photo."
