"""Measure in a new process: with a new runtime and its own memory, so that a crash costs one figure."""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from benchmarks.timing import QUIET_THREADS
from explainable_model.errors import first_line

GRACE = 10  # seconds for a process to end by itself
Figures: TypeAlias = dict[str, Any]


class MeasurementError(Exception):
    """A measurement failed; the message says why."""


def run_isolated(
    measure: Callable[..., Figures], *arguments: object, threads: int = 1, timeout: float = 1200
) -> Figures:
    """Call ``measure(*arguments)`` in a new process and return its result.

    Args:
        measure: a function of a module; its result can be pickled.
        arguments: arguments that can be pickled.
        threads: the number of threads of the libraries in that process.
        timeout: the seconds after which the process is ended.

    Raises:
        MeasurementError: the function raised, crashed or took too long.
    """
    with _environment({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **QUIET_THREADS}):
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measure_and_send, args=(sender, measure, arguments))
        process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise MeasurementError(f"not done after {timeout:.0f} s")
        figures, reason = receiver.recv()
    except EOFError:
        process.join()
        raise MeasurementError(f"the process ended with code {process.exitcode}") from None
    finally:
        process.join(GRACE)
        process.kill()
        process.join()
    if reason:
        raise MeasurementError(reason)
    measured: Figures = figures
    return measured


def _measure_and_send(sender: Connection, measure: Callable[..., Figures], arguments: tuple[object, ...]) -> None:
    try:
        sender.send((measure(*arguments), ""))
    except Exception as error:  # any error belongs in the row
        where = traceback.extract_tb(error.__traceback__)[-1]
        sender.send(
            (None, f"{type(error).__name__}: {first_line(error)} ({os.path.basename(where.filename)}:{where.lineno})")
        )


def run_forked(
    measure: Callable[..., Any], *arguments: object, timeout: float, preload: Sequence[str]
) -> tuple[Any, str]:
    """Call ``measure(*arguments)`` in one thread of a new process, which is forked from one that has imported modules.

    Args:
        measure: a function of a module; it raises nothing, and its result can be pickled.
        arguments: arguments that can be pickled.
        timeout: the seconds after which the process is ended.
        preload: modules that are imported once; none of them starts a thread.

    Returns:
        The result and an empty text, or ``None`` and the reason: a crash, or no result in time.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # for the new processes
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        if not receiver.poll(timeout):
            return None, f"not done after {timeout:.0f} s"
        result = receiver.recv()
        process.join(GRACE)
        return result, ""
    except EOFError:
        process.join()
        return None, f"the process ended with code {process.exitcode}"
    finally:
        process.kill()
        process.join()


def _send_result(sender: Connection, measure: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    sender.send(measure(*arguments))


class _environment:
    """Sets variables of the environment for the processes that are started meanwhile."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
