"""Reads the metadata of an ExecuTorch program, a flatbuffer, without running the method that returns it."""

import struct
from collections.abc import Iterator
from pathlib import Path

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.format import foreign_file
from explainable_model.exporters.guard.archive import MAX_TEXT

MAX_HEADER, MAX_PROGRAM = 64, 2**30
IDENTIFIER, HEADER = b"ET12", b"eh00"
PLANS, PLAN_NAME, PLAN_VALUES, PLAN_OUTPUTS = 1, 0, 2, 4  # fields of Program and ExecutionPlan in program.fbs
VALUE_KIND, VALUE, STRING, STRING_TEXT = 0, 1, 6, 0  # fields of EValue, and its kind and field for texts


class Flatbuffer:
    """Tables, vectors and texts of a flatbuffer; an offset that leaves the buffer raises ``struct.error``."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def number(self, kind: str, position: int) -> int:
        """The number at a position."""
        if position < 0:
            raise struct.error("a position before the buffer")
        return int(struct.unpack_from(f"<{kind}", self.content, position)[0])

    def follow(self, position: int) -> int:
        """The position that an offset leads to."""
        return position + self.number("I", position)

    def field(self, table: int, number: int) -> int | None:
        """The position of a field of a table; ``None`` where the table does not hold it."""
        layout = table - self.number("i", table)
        entry = 4 + 2 * number
        if entry + 2 > self.number("H", layout):
            return None
        offset = self.number("H", layout + entry)
        return table + offset if offset else None

    def child(self, table: int, number: int) -> int | None:
        """The position of the table, vector or text in a field."""
        position = self.field(table, number)
        return None if position is None else self.follow(position)

    def vector(self, position: int | None) -> Iterator[int]:
        """The positions of a vector's elements of four bytes each."""
        count = 0 if position is None else self.number("I", position)
        if position is not None and position + 4 + 4 * count > len(self.content):
            raise struct.error("a vector that is longer than the buffer")
        return (position + 4 + 4 * n for n in range(count)) if position is not None else iter(())

    def text(self, position: int | None) -> bytes:
        """The text at a position."""
        length = 0 if position is None else self.number("I", position)
        if position is None or position + 4 + length > len(self.content):
            raise struct.error("a text that is longer than the buffer")
        return self.content[position + 4 : position + 4 + length]


def read_program_metadata(path: Path) -> str:
    """The text that the program's method ``METADATA_KEY`` returns.

    Raises:
        ArtifactError: the file is no program, is damaged, or was not made by this library.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEADER)
            if content[4:8] != IDENTIFIER:
                raise ValueError("its first bytes are those of another format")
            content += file.read(_find_length(content, path.stat().st_size) - len(content))
        text = _find_text(Flatbuffer(content))
    except (OSError, struct.error, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or not an ExecuTorch program ({error}); export it again.") from error
    if text is None:
        raise foreign_file(path)
    return text


def _find_length(content: bytes, available: int) -> int:
    """The length of the program without its weights, from the header that ExecuTorch writes behind the first bytes."""
    if content[8:12] != HEADER:
        raise ValueError("it has no header that says how long it is")
    length, program, base = struct.unpack_from("<IQQ", content, 12)
    segments = struct.unpack_from("<Q", content, 32)[0] if length >= 32 else 0
    if max(program, base + segments) > available:
        raise ValueError(f"it has {available} bytes of {max(program, base + segments)}")
    if program > MAX_PROGRAM:
        raise ValueError(f"its program has {program} bytes")
    return int(program)


def _find_text(buffer: Flatbuffer) -> str | None:
    program = buffer.follow(0)
    for plan in map(buffer.follow, buffer.vector(buffer.child(program, PLANS))):
        if buffer.text(buffer.child(plan, PLAN_NAME)) != METADATA_KEY.encode():
            continue
        values = list(buffer.vector(buffer.child(plan, PLAN_VALUES)))
        outputs = [buffer.number("i", position) for position in buffer.vector(buffer.child(plan, PLAN_OUTPUTS))]
        value = buffer.follow(values[outputs[0]]) if outputs and 0 <= outputs[0] < len(values) else None
        kind = None if value is None else buffer.field(value, VALUE_KIND)
        holder = None if value is None else buffer.child(value, VALUE)
        if kind is None or holder is None or buffer.number("B", kind) != STRING:
            raise ValueError("its metadata is no text")
        text = buffer.text(buffer.child(holder, STRING_TEXT))
        if len(text) > MAX_TEXT:
            raise ValueError(f"its metadata has {len(text)} bytes")
        return text.decode("utf-8")
    return None
