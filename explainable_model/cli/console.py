"""Progress, warnings and errors on stderr; stdout holds the result alone."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, TypeVar

from explainable_model.progress import Bars

PROGRAM = "explainable-model"
RED, YELLOW, BOLD, PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"

ItemT = TypeVar("ItemT")


class Console:
    """Shows progress to a person at a terminal, and warnings and errors to everyone.

    Args:
        progress: whether to show progress.
    """

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress
        self._out = sys.stdout  # before a command sends what its network prints elsewhere

    def emit(self, text: str) -> None:
        """Print a part of the result as soon as it is known."""
        print(text, file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Show one line of progress."""
        if self._progress:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """Show a warning in one line."""
        self._tell(YELLOW, "warning", text)

    def error(self, text: str) -> None:
        """Show an error in one line."""
        self._tell(RED, "error", text)

    def bold(self, text: str) -> str:
        """The text in bold letters, where the result goes to a terminal with colors."""
        return paint(text, BOLD, self._out)

    def _tell(self, color: str, kind: str, text: str) -> None:
        print(f"{PROGRAM}: {paint(f'{kind}:', color, sys.stderr)} {join_lines(text)}", file=sys.stderr, flush=True)

    def iterate(self, items: Sequence[ItemT], task: str) -> Iterator[ItemT]:
        """Yield the items; for several, show a bar (with tqdm) or one line per item."""
        if not self._progress or len(items) < 2:
            yield from items
            return
        try:
            from tqdm import tqdm
        except ImportError:
            for number, item in enumerate(items, 1):
                self.say(f"{task} {number} of {len(items)}")
                yield item
        else:
            yield from tqdm(items, desc=task, file=sys.stderr, leave=False)

    @contextmanager
    def track_progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """Give a function ``(task, done, total)`` that shows one bar per task, or nothing."""
        bars = Bars()
        try:
            yield bars if self._progress else _ignore
        finally:
            bars.close()


def _ignore(task: str, done: int, total: int) -> None:
    """Show nothing."""


def paint(text: str, color: str, stream: TextIO) -> str:
    """The text in a color, where the stream is a terminal that shows colors and ``NO_COLOR`` is not set."""
    shows = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"{color}{text}{PLAIN}" if shows else text


def join_lines(text: str) -> str:
    """Replace line breaks and repeated spaces by one space each."""
    return " ".join(text.split())
