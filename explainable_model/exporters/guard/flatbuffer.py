"""Reads flatbuffers, the encoding of ExecuTorch's and LiteRT's files, and never outside of the buffer."""

import struct
from collections.abc import Iterator


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

    def check_table(self, table: int) -> None:
        """Check that a table lies in the buffer as a whole.

        Raises:
            struct.error: it does not.
        """
        size = self.number("H", table - self.number("i", table) + 2)
        if table + size > len(self.content):
            raise struct.error("a table that is longer than the buffer")

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
