"""Who is told how far a long computation is: a function of the caller, or a bar on the standard error."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

from explainable_model.explanation import Progress

ProgressLike: TypeAlias = bool | Progress | Callable[[int, int], None] | None


class Bars:
    """A bar for each step on the standard error (with tqdm), or a line for each tenth of it."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show that so many of a step are done; a negative ``total`` stands for an unknown number."""
        if step not in self._bars:
            self._bars[step] = _make_bar(step, total)
        bar = self._bars[step]
        bar.update(done - bar.n)
        if done == total:
            bar.close()
            del self._bars[step]  # the step may begin again

    def close(self) -> None:
        """Remove the bars of unfinished steps."""
        for bar in self._bars.values():
            bar.close()


class _Lines:
    """Prints a line for each tenth of a step."""

    def __init__(self, step: str, total: int) -> None:
        self.n, self._step, self._total, self._told = 0, step, total, 0

    def update(self, count: int) -> None:
        self.n += count
        tenth = 10 * self.n // self._total if self._total > 0 else self.n
        if tenth > self._told:
            self._told = tenth
            of = f" of {self._total}" if self._total > 0 else ""
            print(f"{self._step} {self.n}{of} ...", file=sys.stderr, flush=True)

    def close(self) -> None: ...


def _make_bar(step: str, total: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return _Lines(step, total)
    return tqdm(total=total if total >= 0 else None, desc=step, file=sys.stderr, leave=False)


def as_progress(function: ProgressLike) -> Progress | None:
    """A ``Progress``; ``True`` is a bar, and a function that requires two arguments is called with the numbers alone.

    Raises:
        TypeError: something that cannot be called.
    """
    if function is True:
        return Bars()
    if function is False or function is None:
        return None
    if not callable(function):
        raise TypeError(
            f"progress is {function!r}; expected True, or a function that is called with (step, done, total), for "
            "example print."
        )
    if not _requires_two_arguments(function):
        return cast(Progress, function)
    tell = cast(Callable[[int, int], None], function)
    return partial(_tell_numbers, tell)


def _tell_numbers(tell: Callable[[int, int], None], _: str, done: int, total: int) -> None:
    tell(done, total)


def _requires_two_arguments(function: Callable[..., None]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some types of Python have no signature
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return len(required) == 2 and not any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
