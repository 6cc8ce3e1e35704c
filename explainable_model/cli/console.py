"""What a command says on stderr while it works; results go to stdout alone."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

PROGRAM = "explainable-model"

ItemT = TypeVar("ItemT")


class Console:
    """Progress for a person at a terminal; warnings for everyone.

    Args:
        progress: whether to say what is being done.
    """

    def __init__(self, *, progress: bool) -> None:
        self._progress = progress

    def say(self, text: str) -> None:
        """One line of progress."""
        if self._progress:
            print(f"{text} ...", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """One line that is shown in any case."""
        print(f"{PROGRAM}: warning: {one_line(text)}", file=sys.stderr, flush=True)

    def error(self, text: str) -> None:
        """One line that is shown in any case."""
        print(f"{PROGRAM}: error: {one_line(text)}", file=sys.stderr, flush=True)

    def each(self, items: Sequence[ItemT], doing: str) -> Iterator[ItemT]:
        """The items, with a bar (tqdm) or a line each where there are several."""
        if not self._progress or len(items) < 2:
            yield from items
            return
        try:
            from tqdm import tqdm
        except ImportError:
            for number, item in enumerate(items, 1):
                self.say(f"{doing} {number} of {len(items)}")
                yield item
        else:
            yield from tqdm(items, desc=doing, file=sys.stderr, leave=False)

    @contextmanager
    def counting(self) -> Iterator[Callable[[str, int, int], None]]:
        """What to tell ``(doing, done, of)``: a bar (tqdm) for each thing that is done, or nothing."""
        bars: dict[str, Any] = {}

        def progress(doing: str, done: int, of: int) -> None:
            if not self._progress:
                return
            if doing not in bars:
                try:
                    from tqdm import tqdm
                except ImportError:
                    return
                bars[doing] = tqdm(total=of, desc=doing, file=sys.stderr, leave=False)
            bars[doing].update(done - bars[doing].n)
            if done == of:
                bars[doing].close()

        try:
            yield progress
        finally:
            for bar in bars.values():
                bar.close()


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
