"""Damages bytes: a seed gives the same damage again."""

import random
from collections.abc import Callable, Iterator

INTERESTING = (
    b"\x00" * 8,
    b"\xff" * 8,
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"../../",
    b"\xed\xa0\x80",
    b"{[" * 40,
)


def flip_bits(data: bytearray, dice: random.Random) -> None:
    """Flip one to eight bits."""
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def overwrite(data: bytearray, dice: random.Random) -> None:
    """Write bytes that parsers stumble over."""
    value = dice.choice(INTERESTING)
    start = dice.randrange(len(data))
    data[start : start + len(value)] = value


def truncate(data: bytearray, dice: random.Random) -> None:
    """Cut the end off."""
    del data[dice.randrange(len(data)) :]


def remove(data: bytearray, dice: random.Random) -> None:
    """Take a piece out."""
    start = dice.randrange(len(data))
    del data[start : start + dice.randint(1, 64)]


def repeat(data: bytearray, dice: random.Random) -> None:
    """Insert a piece a second time."""
    start, size = dice.randrange(len(data)), dice.randint(1, 256)
    data[start:start] = data[start : start + size]


def swap(data: bytearray, dice: random.Random) -> None:
    """Exchange two pieces of one length."""
    size = dice.randint(1, min(64, max(len(data) // 4, 1)))
    first, second = (dice.randrange(max(len(data) - size, 1)) for _ in range(2))
    one, other = bytes(data[first : first + size]), bytes(data[second : second + size])
    data[first : first + size] = other
    data[second : second + size] = one


def change_a_number(data: bytearray, dice: random.Random) -> None:
    """Replace a decimal number in text by another."""
    digits = [n for n, byte in enumerate(data) if chr(byte).isdecimal()]
    if digits:
        start = dice.choice(digits)
        data[start : start + 1] = dice.choice((b"0", b"-1", b"99999999999", b"1e400", b"NaN", b"null", b'"x"'))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip_bits,
    overwrite,
    truncate,
    remove,
    repeat,
    swap,
    change_a_number,
)


def damaged(data: bytes, count: int, seed: int = 0, part: tuple[int, int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Damage data in many ways.

    Args:
        data: at least one byte.
        count: how many times.
        seed: another gives other damage.
        part: where to damage: start and end; ``None`` for everywhere.

    Yields:
        A description and the damaged data.
    """
    start, end = part or (0, len(data))
    for number in range(count):
        dice = random.Random(f"{seed}:{number}")
        piece = bytearray(data[start:end])
        names = []
        for mutation in dice.sample(MUTATIONS, dice.choice((1, 1, 1, 2, 3))):
            if piece:
                mutation(piece, dice)
                names.append(mutation.__name__)
        yield f"{number} ({', '.join(names)})", data[:start] + bytes(piece) + data[end:]
