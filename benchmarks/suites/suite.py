"""What a suite is, and what it is asked to do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Row
from benchmarks.subjects import SIZE
from benchmarks.timing import QUICK, Effort

QUICK_SIZE = 64


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    Attributes:
        models: keys of ``MODELS``, or ``None`` for the suite's own choice.
        runtimes: keys of ``FORMATS``, ``eager`` or ``webassembly``, or ``None`` likewise.
        threads: of every process.
        device: ``cpu`` or ``cuda``; the GPU suite asks for it.
        quick: one pair of each measurement and the smallest model: proves that everything runs.
        scratch: where artifacts lie.
    """

    models: Sequence[str] | None = None
    runtimes: Sequence[str] | None = None
    threads: int = 1
    device: str = "cpu"
    quick: bool = False
    scratch: Path = Path("build/benchmarks")

    def effort(self, seconds: float = 4.0) -> Effort:
        """How long to measure each figure."""
        return QUICK if self.quick else Effort(seconds)

    @property
    def size(self) -> int:
        """Height and width of the images; where only the suite itself is tried, small ones."""
        return QUICK_SIZE if self.quick else SIZE

    def chosen(self, default: Sequence[str], quick: Sequence[str] = ("resnet18",)) -> list[str]:
        """The models to measure."""
        return list(self.models or (quick if self.quick else default))


@dataclass(frozen=True)
class Task:
    """One row: its key and what measures it, in the parent process, which isolates what it times."""

    key: str
    measure: Callable[[], Row]


@dataclass(frozen=True)
class Suite:
    """One question.

    Attributes:
        question: what it answers.
        tasks: the rows.
        markdown: the table of rows.
    """

    question: str
    tasks: Callable[[Settings], list[Task]]
    markdown: Callable[[dict[str, Row]], str]
