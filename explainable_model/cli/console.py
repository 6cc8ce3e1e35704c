"""Progress, warnings and errors on stderr; stdout holds the result alone."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

PROGRAM = "explainable-model"

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
        print(f"{PROGRAM}: warning: {join_lines(text)}", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """Show an error in one line."""
        print(f"{PROGRAM}: error: {join_lines(text)}", file=sys.stderr, flush=True)

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
        """Give a function ``(task, done, total)`` that shows one bar per task (with tqdm), or nothing."""
        bars: dict[str, Any] = {}

        def progress(task: str, done: int, total: int) -> None:
            if not self._progress:
                return
            if task not in bars:
                try:
                    from tqdm import tqdm
                except ImportError:
                    return
                bars[task] = tqdm(total=total, desc=task, file=sys.stderr, leave=False)
            bars[task].update(done - bars[task].n)
            if done == total:
                bars[task].close()

        try:
            yield progress
        finally:
            for bar in bars.values():
                bar.close()


def join_lines(text: str) -> str:
    """Replace line breaks and repeated spaces by one space each."""
    return " ".join(text.split())
