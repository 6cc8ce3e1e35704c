"""A cell: a process of its own in which input may do its worst. The keeper sees crashes, hangs and memory."""

import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from explainable_model.errors import ExplainableModelError

SECONDS = 30.0  # of one item
MIB = 1 << 20
ROOT = Path(__file__).parents[2]


@dataclass
class Tally:
    """What became of the items.

    Attributes:
        outcomes: how many items were answered, refused by an error of ours, or did harm.
        harm: descriptions of the items that raised a foreign error, crashed the process, hung, or took too much memory.
        peak_mib: largest resident memory of a cell above what it had before its first item.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    harm: list[str] = field(default_factory=list)
    peak_mib: float = 0.0

    def add(self, outcome: str, description: str, message: str = "") -> None:
        """Count one item."""
        self.outcomes[outcome] += 1
        if outcome not in ("answered", "refused"):
            self.harm.append(f"{outcome}: {description}: {message}")

    def to_record(self) -> dict[str, Any]:
        """Make the record for JSON."""
        return {"outcomes": dict(self.outcomes), "harm": self.harm[:20], "peak_mib": round(self.peak_mib, 1)}


def run_in_cells(
    make_handler: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    items: Iterable[tuple[str, Any]],
    *,
    memory_mib: float,
    seconds: float = SECONDS,
    accepted: tuple[type[Exception], ...] = (),
) -> Tally:
    """Hand each item to a handler in a cell.

    Args:
        make_handler: called in the cell with ``arguments``; returns the handler of one item.
        arguments: they pickle.
        items: a description and what the handler gets.
        memory_mib: how much the cell may grow beyond its memory before the first item.
        seconds: of one item, beyond which it hangs.
        accepted: errors that refuse an item besides ours.

    Returns:
        The tally. A cell that crashed, hung or grew too much is replaced.
    """
    tally = Tally()
    cell: _Cell | None = None
    for description, item in items:
        cell = cell or _Cell(make_handler, arguments, accepted)
        outcome, message, grown = cell.try_item(item, seconds)
        tally.peak_mib = max(tally.peak_mib, grown)
        if grown > memory_mib:
            outcome, message = "memory", f"{grown:.0f} MiB"
        tally.add(outcome, description, message)
        if outcome in ("crash", "hang", "memory"):
            cell.end()
            cell = None
    if cell is not None:
        cell.end()
    return tally


class _Cell:
    def __init__(
        self,
        make_handler: Callable[..., Callable[[Any], Any]],
        arguments: tuple[Any, ...],
        accepted: tuple[type[Exception], ...],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_live, args=(theirs, make_handler, arguments, accepted), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.poll(300):
            raise RuntimeError("The cell did not start.")
        self.before: float = self.connection.recv()

    def try_item(self, item: Any, seconds: float) -> tuple[str, str, float]:
        """The outcome of one item, a message, and how many MiB the cell has grown."""
        try:
            self.connection.send(item)
            if not self.connection.poll(seconds):
                return "hang", f"no answer within {seconds:.0f} s", 0.0
            outcome, message, peak = self.connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self.process.join(10)
            return "crash", f"the process ended with {self.process.exitcode}", 0.0
        return outcome, message, peak - self.before

    def end(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.kill()
        self.process.join(10)


def _live(
    connection: Connection,
    make_handler: Callable[..., Callable[[Any], Any]],
    arguments: tuple[Any, ...],
    accepted: tuple[type[Exception], ...],
) -> None:
    handle = make_handler(*arguments)
    connection.send(_read_peak())
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send((*_try(handle, item, accepted), _read_peak()))


def _try(handle: Callable[[Any], Any], item: Any, accepted: tuple[type[Exception], ...]) -> tuple[str, str]:
    try:
        problem = handle(item)
    except (ExplainableModelError, *accepted) as error:
        return ("refused", str(error)) if str(error).strip() else ("foreign", f"{type(error).__name__} says nothing")
    except MemoryError:
        return "memory", "MemoryError"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "foreign", f"{type(error).__name__}: {str(error)[:200]} ({_shorten(place.filename)}:{place.lineno})"
    return ("answered", "") if problem is None else ("wrong", str(problem))


def _shorten(file: str) -> str:
    """The path of a file in the repository, or in the folder of packages."""
    inside = Path(file).is_relative_to(ROOT)
    return Path(file).relative_to(ROOT).as_posix() if inside else file.rpartition("site-packages/")[2]


def _read_peak() -> float:
    """The largest resident memory of this process in MiB; ``ru_maxrss`` would begin with that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
