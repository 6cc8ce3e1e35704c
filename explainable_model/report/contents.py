"""The bytes of a run's photos, from where they lay or where they lie now: files, tars, Parquet files, stores."""

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explainable_model.batch.manifest import open_manifest
from explainable_model.batch.photos import FILE, PARQUET, Photo, PhotoReader
from explainable_model.batch.stores import Stores, is_address
from explainable_model.errors import ExplainableModelError, InputError

LARGEST_FILE = 400_000_000
Row = Mapping[str, Any]


class Missing(ExplainableModelError):
    """A photo that cannot be shown, and why."""


def find_listed(run: Path, ids: Collection[str]) -> dict[str, Photo]:
    """Find where a run read its photos; nothing where its list is gone."""
    manifest = open_manifest(run) if ids else None
    return {} if manifest is None else manifest.find(ids)


@dataclass(frozen=True)
class ContentFinder:
    """Finds the bytes of photos.

    Attributes:
        listed: where the run read the photos, by their ids.
        folder: where they lie now, if elsewhere.
        stores: those that are open.
    """

    listed: Mapping[str, Photo]
    folder: Path | None
    stores: Stores = field(default_factory=Stores)

    def group(self, rows: Sequence[Row]) -> list[list[int]]:
        """Number the rows in groups: photos of one row group of a Parquet file in their order, others alone."""
        groups: dict[Any, list[int]] = {}
        for number, row in enumerate(rows):
            photo = self.listed.get(row["id"])
            in_table = photo is not None and photo.kind == PARQUET
            key = (photo.container, photo.first, photo.column) if photo is not None and in_table else number
            groups.setdefault(key, []).append(number)
        for group in groups.values():
            group.sort(key=lambda number: self._place(rows[number]))
        return list(groups.values())

    def _place(self, row: Row) -> int:
        photo = self.listed.get(row["id"])
        return 0 if photo is None else photo.second

    def read(self, row: Row, reader: PhotoReader) -> tuple[Path | None, bytes]:
        """Read the bytes of a row's photo, and the file that holds them alone, if there is one.

        Raises:
            Missing: it is nowhere, too large, or another one than in the run.
        """
        path, content = self._read_any(row, reader)
        if row["sha256"] and hashlib.sha256(content).hexdigest() != row["sha256"]:
            raise Missing("the photo has changed since the run")
        return path, content

    def _read_any(self, row: Row, reader: PhotoReader) -> tuple[Path | None, bytes]:
        photo = self.listed.get(row["id"])
        content = None if photo is None or photo.kind == FILE else self._read_inside(photo, reader)
        if content is not None:
            return None, content
        for path in self._list_files(row):
            if path.is_file():  # no device, no pipe
                if path.stat().st_size > LARGEST_FILE:
                    raise Missing("the file is too large for a photo")
                return path, path.read_bytes()
        if photo is not None and photo.kind == FILE and is_address(photo.container):
            return None, self._read_store(photo.container)
        raise Missing("the photo was not found")

    def _read_inside(self, photo: Photo, reader: PhotoReader) -> bytes | None:
        """Read a photo of a tar or of a table; ``None`` where that is gone."""
        if photo.kind != PARQUET and photo.second > LARGEST_FILE:
            raise Missing("the file is too large for a photo")
        for container in self._list_containers(photo.container):
            if not is_address(container) and not os.path.isfile(container):
                continue
            try:
                return reader.read(replace(photo, container=container))
            except InputError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    continue
                raise Missing(f"the photo cannot be read from {_name(container)}, which held it") from error
        return None

    def _list_containers(self, container: str) -> Iterator[str]:
        if self.folder is not None:
            yield str(self.folder / _name(container))
        if is_address(container) or os.path.isabs(container):
            yield container

    def _list_files(self, row: Row) -> Iterator[Path]:
        """The places to look at; a name never leads out of the folder."""
        name, uri = str(row["name"]), str(row["uri"] or "")
        if "\0" in name or "\0" in uri:
            return
        if self.folder is not None:
            inside = (self.folder / name).resolve()
            if inside.is_relative_to(self.folder.resolve()):
                yield inside
            yield self.folder / _name(uri.replace("#", "/"))
        uri = uri.removeprefix("file://")
        if os.path.isabs(uri):
            yield Path(uri)

    def _read_store(self, address: str) -> bytes:
        try:
            return self.stores.read(address, LARGEST_FILE)
        except FileNotFoundError as error:
            raise Missing("the photo was not found") from error
        except (OSError, ExplainableModelError) as error:
            raise Missing("the photo cannot be read from its store") from error


def _name(container: str) -> str:
    return Path(container.split("?")[0]).name if is_address(container) else Path(container).name
