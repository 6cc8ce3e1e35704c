"""One strict reading of a zip archive, from which a new archive is written for the runtime.

Two programs can read one zip archive differently: the directory at its end may name other bytes than the entries
themselves, or there may be two directories. This reader accepts archives that have one reading only. The runtime
receives an archive that ``rewrite`` made of the checked entries, not the file.
"""

import contextlib
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.format import foreign_file

END, CENTRAL, LOCAL = struct.Struct("<4s4H2LH"), struct.Struct("<4s4B4HL2L5H2L"), struct.Struct("<4s5HL2L2H")
END64, LOCATOR = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
STORED, DEFLATED = 0, 8
DESCRIPTOR, UTF8 = 0x8, 0x800  # the two flags that writers of PyTorch set
MAX32 = 0xFFFFFFFF
MAX_ENTRIES = 200_000
MAX_DIRECTORY = 64 << 20
MAX_TEXT = 64 << 20  # one entry that is parsed: the graph, the metadata, a pickle of names and shapes
MAX_RATIO, MAX_SPARE = 8, 1 << 20  # how much longer the entries are than the file, where they are packed
ROOT = "archive"


@dataclass(frozen=True)
class Entry:
    """Where the bytes of one entry lie.

    Attributes:
        size: number of bytes, unpacked.
        packed: number of bytes in the file.
        method: 0 for stored, 8 for deflated.
        crc: checksum of the unpacked bytes.
        start: first byte of the content in the file.
    """

    size: int
    packed: int
    method: int
    crc: int
    start: int


class Archive:
    """A zip archive with one root folder, opened by its path; entries are named without that folder.

    Raises:
        ArtifactError: the file is no zip archive, is damaged, or can be read in more than one way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ArtifactError(f"{path} cannot be read ({error.strerror or error}).") from error
        try:
            self.entries = self._read_entries()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, name: str, limit: int = MAX_TEXT) -> bytes:
        """The content of an entry.

        Raises:
            ArtifactError: there is no such entry, it has more bytes than ``limit``, or it is damaged.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise self.damaged(f"it has no entry {name}")
        if entry.size > limit:
            raise self.damaged(f"its entry {name} has {entry.size} bytes, more than the {limit} that are read")
        self._file.seek(entry.start)
        content = self._file.read(entry.packed)
        if entry.method == DEFLATED:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                content = unpacker.decompress(content, entry.size + 1)
            except zlib.error as error:
                raise self.damaged(f"its entry {name} cannot be unpacked: {error}") from error
        if len(content) != entry.size or zlib.crc32(content) != entry.crc:
            raise self.damaged(f"its entry {name} does not have the recorded length and checksum")
        return content

    def read_metadata(self) -> str:
        """The metadata text, which the exporters of this library store under ``extra/``.

        Raises:
            ArtifactError: there is none, or it is damaged or too large.
        """
        name = f"extra/{METADATA_KEY}"
        if name not in self.entries:
            raise foreign_file(self.path)
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged(f"its metadata is no text ({error})") from error

    @contextlib.contextmanager
    def rewrite(self, contents: Mapping[str, bytes], copied: list[str]) -> Iterator[IO[bytes]]:
        """Write a new archive into memory, of contents that were checked and of entries that are plain numbers.

        Args:
            contents: the checked entries.
            copied: names of the entries that are copied as they are.
        """
        with _scratch_file() as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
                for name, content in contents.items():
                    archive.writestr(zipfile.ZipInfo(f"{ROOT}/{name}"), content)
                for name in copied:
                    archive.writestr(zipfile.ZipInfo(f"{ROOT}/{name}"), self.read(name, self.entries[name].size))
            file.seek(0)
            yield file

    def damaged(self, reason: str) -> ArtifactError:
        """The error for an archive that cannot be read."""
        return ArtifactError(f"{self.path} is damaged or not an archive of this format: {reason}; export it again.")

    def _read_entries(self) -> dict[str, Entry]:
        length = os.fstat(self._file.fileno()).st_size
        count, start, size = self._read_end(length)
        if count > MAX_ENTRIES or size > MAX_DIRECTORY:
            raise self.damaged(f"its directory has {count} entries")
        directory = self._read_at(start, size)
        found: list[tuple[int, str, Entry]] = []
        position = 0
        for _ in range(count):
            if position + CENTRAL.size > size:
                raise self.damaged("its directory is shorter than it says")
            position, name, offset, entry, flags = self._read_central(directory, position)
            found.append((offset, name, self._check_local(offset, name, entry, flags)))
        if position != size:
            raise self.damaged("its directory is longer than it says")
        self._check_order(found, start)
        unpacked = sum(entry.size for *_, entry in found)
        if unpacked > MAX_RATIO * length + MAX_SPARE:
            raise self.damaged(f"its entries unpack to {unpacked} bytes, and the file has {length}")
        root = found[0][1].partition("/")[0] + "/"
        names = [name.removeprefix(root) for _, name, _ in found]
        if not all(name.startswith(root) for _, name, _ in found) or len({n.lower() for n in names}) != len(names):
            raise self.damaged("its entries do not lie in one folder, or two have the same name")
        return dict(zip(names, (entry for *_, entry in found), strict=True))

    def _read_end(self, length: int) -> tuple[int, int, int]:
        """The number of entries, and where the directory starts and how long it is; nothing may follow it."""
        end = length - END.size
        if end < 0:
            raise self.damaged("it is too short")
        magic, disk, first, here, count, size, start, comment = END.unpack(self._read_at(end, END.size))
        if magic != b"PK\x05\x06" or disk or first or here != count or comment:
            raise self.damaged("it does not end with the directory of a zip archive")
        position = end - LOCATOR.size
        if position >= END64.size:
            magic, disk, at, disks = LOCATOR.unpack(self._read_at(position, LOCATOR.size))
            if magic == b"PK\x06\x07":
                fields = END64.unpack(self._read_at(position - END64.size, END64.size))
                if disk or disks > 1 or at != position - END64.size or fields[0] != b"PK\x06\x06" or fields[1] != 44:
                    raise self.damaged("its two ends differ")
                end, count64, size64, start64 = at, *fields[7:]
                pairs = ((count, count64, 0xFFFF), (size, size64, MAX32), (start, start64, MAX32))
                if any(short not in (long, limit) for short, long, limit in pairs):
                    raise self.damaged("its two ends differ")
                count, size, start = count64, size64, start64
        if start + size != end or not count:
            raise self.damaged("bytes lie before, between or behind its parts, as where two archives are joined")
        return count, start, size

    def _read_central(self, directory: bytes, position: int) -> tuple[int, str, int, Entry, int]:
        fields = CENTRAL.unpack_from(directory, position)
        magic, _, _, _, _, flags, method, _, _, crc, packed, size, *lengths = fields
        named, extra, comment, disk, _, _, offset = lengths
        text = directory[position + CENTRAL.size :][:named]
        more = directory[position + CENTRAL.size + named :][:extra]
        if magic != b"PK\x01\x02" or disk or comment or len(text) != named or len(more) != extra:
            raise self.damaged("its directory is broken")
        if flags & ~(DESCRIPTOR | UTF8) or method not in (STORED, DEFLATED):
            raise self.damaged(f"an entry is packed by method {method} with flags {flags:#x}")
        size, packed, offset = self._widen(more, size, packed, offset)
        name = self._check_name(text)
        entry = Entry(size, packed, method, crc, 0)
        return position + CENTRAL.size + named + extra, name, offset, entry, flags

    def _widen(self, extra: bytes, *values: int) -> list[int]:
        """Replace the largest 32-bit numbers by those of 64 bits in the extra field."""
        wide = list(values)
        missing = [n for n, value in enumerate(values) if value == MAX32]
        while extra and missing:
            kind, length = struct.unpack_from("<2H", extra.ljust(4, b"\0"))
            body, extra = extra[4 : 4 + length], extra[4 + length :]
            if kind == 1 and len(body) >= 8 * len(missing):
                for n, value in zip(missing, struct.unpack_from(f"<{len(missing)}Q", body), strict=True):
                    wide[n] = value
                missing = []
        if missing:
            raise self.damaged("an entry is larger than its directory says")
        return wide

    def _check_name(self, text: bytes) -> str:
        try:
            name = text.decode("ascii")
        except UnicodeDecodeError as error:
            raise self.damaged(f"an entry has the name {text!r}") from error
        parts = name.split("/")
        plain = all(part not in ("", ".", "..") for part in parts) and name.isprintable() and "\\" not in name
        if not plain or len(parts) < 2 or len(name) > 1000:
            raise self.damaged(f"an entry has the name {name[:100]!r}")
        return name

    def _check_local(self, offset: int, name: str, entry: Entry, flags: int) -> Entry:
        """Compare the header before the content with the directory."""
        header = self._read_at(offset, LOCAL.size)
        magic, _, local_flags, method, _, _, crc, packed, size, named, extra = LOCAL.unpack(header)
        text = self._read_at(offset + LOCAL.size, named)
        if magic != b"PK\x03\x04" or local_flags != flags or method != entry.method or text != name.encode():
            raise self.damaged(f"its directory and the entry {name} differ")
        if not flags & DESCRIPTOR:
            wide = self._widen(self._read_at(offset + LOCAL.size + named, extra), size, packed)
            if [crc, *wide] != [entry.crc, entry.size, entry.packed]:
                raise self.damaged(f"its directory and the entry {name} differ")
        if entry.method == STORED and entry.size != entry.packed:
            raise self.damaged(f"its entry {name} is not stored as it says")
        return Entry(entry.size, entry.packed, entry.method, entry.crc, offset + LOCAL.size + named + extra)

    def _check_order(self, found: list[tuple[int, str, Entry]], directory: int) -> None:
        """Every byte belongs to exactly one entry: no gaps beside the descriptors, and no overlaps."""
        found.sort(key=lambda row: row[0])
        ends = [offset for offset, *_ in found[1:]] + [directory]
        for (_, name, entry), end in zip(found, ends, strict=True):
            if end - (entry.start + entry.packed) not in (0, 12, 16, 20, 24):  # with or without its descriptor
                raise self.damaged(f"its entry {name} overlaps another, or bytes lie behind it")
        if found[0][0] != 0:
            raise self.damaged("bytes lie before its first entry")

    def _read_at(self, position: int, length: int) -> bytes:
        self._file.seek(position)
        content = self._file.read(length)
        if len(content) != length:
            raise self.damaged("it is shorter than its directory says")
        return content


def _scratch_file() -> IO[bytes]:
    """A file without a name: in memory where the system has such files, else in the temporary folder."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("artifact"), "w+b")
    return tempfile.TemporaryFile()


def file_path(file: IO[bytes]) -> str | IO[bytes]:
    """A path that opens this very file, even without a name; the file itself where the system has no such path.

    torch.jit reads a path piece by piece, and everything else into memory several times.
    """
    path = f"/proc/self/fd/{file.fileno()}"
    return path if os.path.exists(path) else file
