"""The checksum of an artifact: the SHA-256 of its files before the checksum itself was written into them.

The metadata is written with a checksum of zeros, the files are hashed, and the digits are put in place of the zeros. A
reader puts the zeros back, in memory, and hashes again. So one rule covers every byte of every format. In a zip archive
the CRC-32 of the changed entry is put back as well.
"""

import hashlib
import mmap
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from explainable_model.errors import ArtifactError

ALGORITHM = "sha256:"
UNWRITTEN = ALGORITHM + 64 * "0"
"""Stands in the metadata until the files are hashed."""

Edits: TypeAlias = dict[int, bytes]  # new bytes by their position in the file

_CENTRAL, _LOCAL, _DESCRIPTOR = b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08"  # signatures of records of a zip archive
_BLOCK = 1 << 20
_MOST_PLACES = 16  # where a checksum stands; each is compared with each entry of an archive
_HAS_DESCRIPTOR = 8  # the flag of an entry whose CRC-32 stands behind its content


def write_checksum(path: Path, companion: Path | None = None) -> str:
    """Hash an artifact whose metadata has the checksum ``UNWRITTEN``, and write the checksum into it.

    Args:
        path: the file that holds the metadata.
        companion: the file beside it that holds the weights, if there is one.

    Returns:
        The checksum.

    Raises:
        ArtifactError: the file does not hold ``UNWRITTEN``.
    """
    with _mapped(path) as content:
        checksum = ALGORITHM + _hash(content, {}, companion)
        edits = _find_edits(path, content, UNWRITTEN, checksum)
    if not edits:
        raise ArtifactError(f"{path} has no place for its checksum.")
    with path.open("r+b") as file:
        for at, new in edits.items():
            file.seek(at)
            file.write(new)
    return checksum


def find_difference(path: Path, checksum: str, companion: Path | None = None) -> str:
    """Hash the files of an artifact, and compare.

    Args:
        path: the file that holds the metadata.
        checksum: as the metadata have it.
        companion: the file beside it that holds the weights, if there is one.

    Returns:
        An empty string where the files are those that were exported, else what is wrong.

    Raises:
        ArtifactError: a file cannot be read.
    """
    try:
        with _mapped(path) as content:
            found = ALGORITHM + _hash(content, _find_edits(path, content, checksum, UNWRITTEN), companion)
    except Exception as error:  # zipfile raises errors of many types for a damaged archive
        raise ArtifactError(f"{path} is damaged ({error}); export it again.") from error
    if found == checksum:
        return ""
    files = path.name if companion is None else f"{path.name}, or {companion.name} beside it,"
    return f"{files} is damaged, or was changed after the export: the checksum is {found}, recorded is {checksum}"


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def _hash(content: mmap.mmap, edits: Edits, companion: Path | None) -> str:
    digest = hashlib.sha256()
    with memoryview(content) as view:
        position = 0
        for at, new in sorted(edits.items()):
            digest.update(view[position:at])
            digest.update(new)
            position = at + len(new)
        digest.update(view[position:])
    if companion is not None:
        with companion.open("rb") as weights:
            while block := weights.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _find_edits(path: Path, content: mmap.mmap, old: str, new: str) -> Edits:
    """The bytes that change where one checksum is put in place of another."""
    places, at = [], content.find(old.encode())
    while at >= 0:
        places.append(at)
        at = content.find(old.encode(), at + 1)
        if len(places) > _MOST_PLACES:
            raise ValueError(f"its checksum stands in more than {_MOST_PLACES} places")
    edits = {at: new.encode() for at in places}
    if places and content[:4] == _LOCAL:
        edits |= _find_crc_edits(path, content, places, edits)
    return edits


def _find_crc_edits(path: Path, content: mmap.mmap, places: list[int], edits: Edits) -> Edits:
    """The CRC-32 of each entry of a zip archive that holds one of the places, with the edits made."""
    found: Edits = {}
    with zipfile.ZipFile(path) as archive:
        central = archive.start_dir
        for entry in archive.infolist():
            if content[central : central + 4] != _CENTRAL:
                raise zipfile.BadZipFile("its directory is damaged")
            start = entry.header_offset + 30 + _read(content, entry.header_offset + 26, 2)
            start += _read(content, entry.header_offset + 28, 2)
            end = start + entry.compress_size
            inside = [at for at in places if start <= at < end]
            if inside and entry.compress_type == zipfile.ZIP_STORED:
                changed = bytearray(content[start:end])
                for at in inside:
                    changed[at - start : at - start + len(edits[at])] = edits[at]
                crc = zlib.crc32(changed).to_bytes(4, "little")
                found[central + 16] = crc
                if not entry.flag_bits & _HAS_DESCRIPTOR:
                    found[entry.header_offset + 14] = crc
                else:
                    found[end + (4 if content[end : end + 4] == _DESCRIPTOR else 0)] = crc
            central += 46 + sum(_read(content, central + field, 2) for field in (28, 30, 32))
    return found


def _read(content: mmap.mmap, at: int, size: int) -> int:
    return int.from_bytes(content[at : at + size], "little")
