"""The processes of the local engine: each takes parts, and a process that ends loses only the part in its hands."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any

from explainable_model.batch.parts import MeasureTask, PartResult, PartTask, PartWorker
from explainable_model.batch.photos import Photo
from explainable_model.errors import ArtifactError

WORKER = "explainable_model.batch.worker"
TWICE = 2  # a photo at which a process ended that often is not read again
MOST_STARTS = 3  # processes that ended before they had opened the artifact
STDERR = 2
GRACE = 5.0  # seconds for a process to end by itself


@dataclass
class Member:
    """One process.

    Attributes:
        process, connection: of it.
        task: what it does; ``None`` while it waits or opens the artifact.
        ready: whether it has opened the artifact.
        photo: the last one that it announced.
        done: photos of its task.
    """

    process: "subprocess.Popen[bytes]"
    connection: Connection
    task: PartTask | None = None
    ready: bool = False
    photo: str = ""
    done: int = 0

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.terminate()

    def reap(self) -> str:
        """Wait for the end of the process, and say how it ended."""
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


class Pool:
    """Processes that explain parts of a run; a context manager, which ends them.

    Args:
        worker: what each process gets.
        processes: how many.
    """

    def __init__(self, worker: PartWorker, processes: int) -> None:
        self.worker = worker
        self.processes = processes
        self.members: list[Member] = []
        self._starts = 0
        self._blame: Counter[str] = Counter()

    def __enter__(self) -> "Pool":
        try:
            self.members = [self._start() for _ in range(self.processes)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            member.stop()
        for member in self.members:
            member.reap()

    def _start(self) -> Member:
        """Start a process that imports what this one does; a script without a guard is not run again."""
        ours, theirs = Pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-m", WORKER, str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=STDERR,  # the standard output is the driver's
        )
        theirs.close()
        member = Member(process, ours)
        with contextlib.suppress(BrokenPipeError):  # told where its messages are read
            ours.send(self.worker)
        return member

    def measure(self, photos: Sequence[Photo], seconds: float) -> tuple[float, int]:
        """Measure how many photos a second all processes explain together, and how much memory one takes.

        Raises:
            ArtifactError: a process ended.
        """
        self._receive_from_all("ready")
        for member in self.members:
            with contextlib.suppress(OSError):  # told where its answer is read
                member.connection.send(MeasureTask(tuple(photos), seconds))
        found = self._receive_from_all("measured")
        return sum(rate for rate, _ in found), max(size for _, size in found)

    def _receive_from_all(self, kind: str) -> list[Any]:
        values = []
        for member in self.members:
            try:
                got, value = member.connection.recv()
            except (EOFError, OSError):
                got, value = "failed", f"a process {member.reap()}"
            if got != kind:
                raise ArtifactError(f"The measurement failed: {value}.")
            member.ready = True
            values.append(value)
        return values

    def run(self, tasks: Iterable[PartTask], tell: Callable[[int], None]) -> Iterator[PartResult]:
        """Explain parts, each once.

        Args:
            tasks: the parts.
            tell: called with how many photos of unfinished parts are done.

        Yields:
            The result of each part, as soon as its file is there.

        Raises:
            ArtifactError: a part cannot be written, or no process can open the artifact.
        """
        waiting = deque(tasks)
        while waiting or any(member.task for member in self.members):
            for member in self.members:
                if member.ready and member.task is None and waiting:
                    self._give(member, waiting)
            for connection in wait([member.connection for member in self.members]):
                member = next(each for each in self.members if each.connection is connection)
                result = self._read(member, waiting)
                if result is not None:
                    yield result
            tell(sum(member.done for member in self.members))

    def _give(self, member: Member, waiting: "deque[PartTask]") -> None:
        member.task, member.photo, member.done = waiting.popleft(), "", 0
        with contextlib.suppress(OSError):  # it has just ended, and its end is read next
            member.connection.send(member.task)

    def _read(self, member: Member, waiting: "deque[PartTask]") -> PartResult | None:
        try:
            kind, value = member.connection.recv()
        except (EOFError, OSError):
            self._replace(member, waiting)
            return None
        if kind in ("refused", "failed"):
            raise ArtifactError(value)
        if kind == "ready":
            member.ready = True
        elif kind == "photo":
            member.photo = value
        elif kind == "done":
            member.done = value
        else:
            member.task, member.done = None, 0
            result: PartResult = value
            return result
        return None

    def _replace(self, member: Member, waiting: "deque[PartTask]") -> None:
        """Start a process in place of one that has ended; its part is done again, one photo at a time."""
        member.connection.close()
        reason = member.reap()
        if not member.ready:
            self._starts += 1
            if self._starts == MOST_STARTS:
                raise ArtifactError(
                    f"Three processes that opened {self.worker.explainer.artifact} {reason}. Is there enough memory? "
                    "Fewer processes take less: --processes 1."
                )
        if member.task is not None:
            waiting.appendleft(self._blame_photo(member.task, member.photo, reason))
        self.members[self.members.index(member)] = self._start()

    def _blame_photo(self, task: PartTask, photo: str, reason: str) -> PartTask:
        if photo:
            self._blame[photo] += 1
            if self._blame[photo] == TWICE:
                return replace(task, deadly=(*task.deadly, (photo, reason)))
        return replace(task, careful=True)
