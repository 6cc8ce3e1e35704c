"""What a command says on stderr while it works; results go to stdout alone."""

import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

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


def one_line(text: str) -> str:
    """The text without line breaks."""
    return " ".join(text.split())
