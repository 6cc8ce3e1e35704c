"""A process of the local engine: takes parts from a pipe until the pipe is closed."""

import resource
import signal
import sys
import time
from multiprocessing.connection import Connection

from explainable_model.batch.batch_explainer import Input
from explainable_model.batch.parts import MeasureTask, PartTask, PartWorker
from explainable_model.errors import ExplainableModelError, first_line


def serve(connection: Connection) -> None:
    """Do what the pipe asks for; a closed pipe means that nobody waits any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    try:
        worker: PartWorker = connection.recv()
        try:
            worker.explainer.open()
        except Exception as error:  # told there, and raised there
            connection.send(("refused", _describe(error)))
            return
        connection.send(("ready", 0))
        while (task := connection.recv()) is not None:
            connection.send(_do(worker, task, connection))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _do(worker: PartWorker, task: object, connection: Connection) -> tuple[str, object]:
    try:
        if isinstance(task, PartTask):
            return "part", worker.explain(task, lambda kind, value: connection.send((kind, value)))
        assert isinstance(task, MeasureTask)
        return "measured", _measure(worker, task)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # told there, and raised there
        return "failed", _describe(error)


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, ExplainableModelError) else f"{type(error).__name__}: {first_line(error)}"


def _measure(worker: PartWorker, task: MeasureTask) -> tuple[float, int]:
    """Photos per second, and the most memory of this process in bytes."""
    inputs = [Input(photo) for photo in task.photos]
    list(worker.explainer.explain(inputs[:2]))  # the first call of a runtime is slow
    started, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - started < task.seconds:
        done += len(list(worker.explainer.explain(inputs)))
    rate = done / (time.perf_counter() - started)
    return rate, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
