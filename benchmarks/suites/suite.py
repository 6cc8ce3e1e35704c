"""A suite of measurements, its rows, and the settings of the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Row
from benchmarks.subjects import SIZE
from benchmarks.timing import QUICK, Effort

QUICK_SIZE = 64


@dataclass(frozen=True)
class Settings:
    """The settings of the command line.

    Attributes:
        models: keys of ``MODELS``, or ``None`` for the suite's own choice.
        runtimes: keys of ``FORMATS``, ``eager`` or ``webassembly``, or ``None`` for the suite's own choice.
        threads: the number of threads of every process.
        device: ``cpu`` or ``cuda``, for the GPU suite.
        quick: whether to measure one pair each on the smallest model, which proves that everything runs.
        scratch: the folder of artifacts.
    """

    models: Sequence[str] | None = None
    runtimes: Sequence[str] | None = None
    threads: int = 1
    device: str = "cpu"
    quick: bool = False
    scratch: Path = Path("build/benchmarks")

    def choose_effort(self, seconds: float = 4.0) -> Effort:
        """The effort of each figure."""
        return QUICK if self.quick else Effort(seconds)

    @property
    def size(self) -> int:
        """Height and width of the images, which are small for a quick run."""
        return QUICK_SIZE if self.quick else SIZE

    def choose_models(self, default: Sequence[str], quick: Sequence[str] = ("resnet18",)) -> list[str]:
        """The models to measure."""
        return list(self.models or (quick if self.quick else default))


@dataclass(frozen=True)
class Task:
    """One row: its key, and the function that measures it from the parent process."""

    key: str
    measure: Callable[[], Row]


@dataclass(frozen=True)
class Suite:
    """A question, its rows and its table.

    Attributes:
        question: the question that the suite answers.
        list_tasks: the function that lists the rows to measure.
        to_markdown: the function that writes the table of rows.
    """

    question: str
    list_tasks: Callable[[Settings], list[Task]]
    to_markdown: Callable[[dict[str, Row]], str]
