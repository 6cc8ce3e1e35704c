"""Files in stores, such as ``s3://bucket/photos``, which pyarrow opens, or fsspec where pyarrow does not know them."""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Any

from explainable_model.batch.schema import import_pyarrow
from explainable_model.errors import InputError, MissingRuntimeError, first_line

ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://")
OF_PYARROW = ("file", "s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss")
HOST_APART = ("hdfs", "viewfs")  # their paths do not begin with the host
PASSWORD = re.compile(r"[^/?#]*:[^/?#]*@")  # before the host
OPTIONS = re.compile(r"\?(?=[^?/]*=)[^?/=]+=[^?]*$")  # of pyarrow, behind the path
BUFFER = 1 << 20  # bytes: the headers of a tar lie between its photos
WILDCARDS = frozenset("*?[")


def is_address(text: str) -> bool:
    """Whether a text names a file in a store, such as ``s3://bucket/photos``."""
    return ADDRESS.match(text) is not None


def drop_options(address: str) -> str:
    """An address without the options of its store, as ``?region=eu-west-1``: the name of a photo in rows."""
    return OPTIONS.sub("", address) if _scheme(address) in OF_PYARROW else address


def locate(path: str, *, folder: str = "") -> tuple[str, str, str]:
    """Locate a file of this machine or of a store.

    Args:
        path: as a user named it.
        folder: to which it is relative, a folder or the address of one; as a user named it.

    Returns:
        Its name in ids; where it lies, for people; and where it is opened, which of a store has its options.

    Raises:
        InputError: the address holds a password.
    """
    if is_address(path):
        _refuse_password(path)
        return drop_options(path), drop_options(path), path
    if is_address(folder):
        place = drop_options(folder)
        return locate(f"{place.rstrip('/')}/{path}{folder.removeprefix(place)}")
    full = os.path.abspath(os.path.join(folder, path))
    return os.path.normpath(path), full, full


def _refuse_password(address: str) -> None:
    scheme, rest = address.split("://", 1)
    if found := PASSWORD.match(rest):
        raise InputError(
            f"The address {scheme}://...@{rest[found.end() :]} holds a password, which would be written into every "
            "row; put it where the store's own tools look for it, as AWS_SECRET_ACCESS_KEY."
        )


def find_folder(path: str) -> str:
    """The folder of a file of this machine or of a store."""
    if not is_address(path):
        return os.path.dirname(os.path.abspath(path))
    place = drop_options(path)
    return place.rpartition("/")[0] + path.removeprefix(place)


class Stores:
    """Stores that are open in this process, each once."""

    def __init__(self) -> None:
        self._opened: dict[str, Any] = {}

    def find(self, address: str) -> tuple[Any, str]:
        """Find the ``pyarrow.fs.FileSystem`` of an address, and the path in it.

        Raises:
            InputError: it cannot be opened, holds a password, or names a store that is unknown here.
            MissingRuntimeError: pyarrow, or the package that opens the store, is not installed.
        """
        arrow = import_pyarrow(f"{address} is a store, which")
        scheme = _scheme(address)
        _refuse_password(address)
        if scheme not in OF_PYARROW:
            return _open_with_fsspec(address, scheme)
        from pyarrow import fs

        place = drop_options(address)
        rest = place.split("://", 1)[1].rstrip("/")
        host = "" if scheme == "file" else rest.split("/", 1)[0]
        root = f"{scheme}://{host or '/'}{address.removeprefix(place)}"
        try:
            if root not in self._opened:
                self._opened[root] = fs.FileSystem.from_uri(root)[0]
        except (OSError, ValueError, arrow.ArrowException) as error:
            raise InputError(f"{address} cannot be opened: {first_line(error)}") from error
        return self._opened[root], rest[len(host) :] if scheme in HOST_APART else rest

    @contextmanager
    def open_file(self, address: str) -> Iterator[Any]:
        """Open a file of a store, or of this machine, for reading anywhere in it."""
        if not is_address(address):
            with open(address, "rb") as local:
                yield local
            return
        system, path = self.find(address)
        with system.open_input_file(path) as found, io.BufferedReader(found, BUFFER) as stream:
            yield stream

    def read(self, address: str, most: int | None = None) -> bytes:
        """Read a file of a store, or its first ``most`` bytes."""
        system, path = self.find(address)
        with system.open_input_stream(path) as stream:
            content: bytes = stream.read(most)
        return content

    def read_range(self, address: str, offset: int, size: int) -> bytes:
        """Read a part of a file of a store or of this machine, and no more than that part."""
        system, path = self.find(address) if is_address(address) else (None, address)
        with open(path, "rb") if system is None else system.open_input_file(path) as stream:
            stream.seek(offset)
            content: bytes = stream.read(size)
        return content

    def list_files(self, address: str) -> Iterator[tuple[str, bool]]:
        """List a file, the files of a folder and its subfolders, or those that a pattern matches, in their order.

        Yields:
            The address, and whether it was named itself or by a pattern: then it may have any ending.

        Raises:
            InputError: as ``find``, or it cannot be listed.
        """
        system, path = self.find(address)
        place = drop_options(address).rstrip("/")
        before, options = place[: len(place) - len(path)], address.removeprefix(drop_options(address))
        try:
            found, named = _list(system, path)
        except OSError as error:
            raise InputError(f"{address} cannot be listed: {first_line(error)}") from error
        for name in sorted(found, key=lambda name: name.split("/")):
            yield f"{before}{name}{options}", named


def _list(system: Any, path: str) -> tuple[list[str], bool]:
    from pyarrow import fs

    kind = system.get_file_info(path).type
    if kind == fs.FileType.File:
        return [path], True
    parts = path.split("/")
    first = next((n for n, part in enumerate(parts) if WILDCARDS & set(part)), len(parts))
    if first == len(parts) or kind == fs.FileType.Directory:
        infos = system.get_file_info(fs.FileSelector(path, recursive=True))
        return [info.path for info in infos if info.is_file], False
    if "**" in parts:
        raise InputError(f"The pattern {path} has **, which is for folders of this machine; name the folder before it.")
    infos = system.get_file_info(fs.FileSelector("/".join(parts[:first]), recursive=True))
    names = [info.path for info in infos if info.is_file]
    return [name for name in names if _matches(name.split("/"), parts)], True


def _matches(names: list[str], pattern: list[str]) -> bool:
    return len(names) == len(pattern) and all(map(fnmatchcase, names, pattern))


def _scheme(address: str) -> str:
    return address.split("://", 1)[0]


def _open_with_fsspec(address: str, scheme: str) -> tuple[Any, str]:
    from pyarrow import fs

    try:
        system, path = import_module("fsspec").url_to_fs(address)
    except ImportError as error:  # fsspec says which package a store needs
        raise MissingRuntimeError(
            f"{address} needs a package: {first_line(error)}. pyarrow alone opens {', '.join(OF_PYARROW)}."
        ) from error
    except ValueError as error:
        raise InputError(
            f"{scheme}:// is no store that pyarrow or fsspec knows; expected {', '.join(OF_PYARROW)}, or another of "
            "fsspec."
        ) from error
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path
