"""The Ray engine: the parts of a run on a pool of actors of Ray Data.

Each actor writes whole parts, as the processes of the local engine do, so that a cluster's rows are those of one
machine, and either engine goes on with the other's run. Ray's own checkpoint is not used: for sources without a reader
of files it does nothing and says nothing, and a part that is there needs no other mark.
"""

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from explainable_model.batch.layout import count_cores
from explainable_model.batch.parts import PartResult, PartTask, PartWorker
from explainable_model.errors import (
    ArtifactError,
    ExplainableModelError,
    InputError,
    MissingRuntimeError,
    first_line,
    root_cause,
)

RETRIES = 3
SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}


class _Actor:
    """Explains parts in a process of the cluster."""

    def __init__(self, worker: PartWorker) -> None:
        self._worker = worker
        worker.explainer.open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        results = [
            self._worker.explain(PartTask(int(number), retry=bool(retry)), lambda kind, value: None)
            for number, retry in zip(batch["number"], batch["retry"], strict=True)
        ]
        return {name: [getattr(result, name) for result in results] for name in ("number", "made", "failed")}


def run_on_ray(worker: PartWorker, tasks: Sequence[PartTask], actors: int | None) -> Iterator[PartResult]:
    """Explain parts on a Ray cluster: the one that ``ray.init`` or ``RAY_ADDRESS`` names, else this machine.

    An actor that ends is started again, and its part is explained again, three times at most.

    Args:
        worker: what each actor gets; the artifact, the photos and the run folder lie where every node finds them.
        tasks: the parts.
        actors: how many; ``None`` for as many as the cluster has processors, less one, which lists the parts.

    Yields:
        The result of each part.

    Raises:
        MissingRuntimeError: Ray is not installed.
        InputError: more actors than processors less one, with which Ray would wait for ever.
        ArtifactError: a part failed.
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    try:
        ray, data = import_module("ray"), import_module("ray.data")
    except ImportError as error:
        raise MissingRuntimeError("--engine ray needs Ray: pip install 'explainable-model[ray]'.") from error
    started = not ray.is_initialized()
    if started:
        _start(ray, actors or count_cores(), worker.explainer.threads or 1)
    try:
        yield from _run(ray, data, worker, tasks, _choose_actors(ray, worker, actors, len(tasks)))
    except ExplainableModelError:
        raise
    except ray.exceptions.RayError as error:
        raise ArtifactError(
            f"Ray could not explain every part: {first_line(root_cause(error))}. The parts that were written stay; run "
            "the same command again, also with --engine local."
        ) from error
    finally:
        if started:
            ray.shutdown()


def _run(ray: Any, data: Any, worker: PartWorker, tasks: Sequence[PartTask], actors: int) -> Iterator[PartResult]:
    data.DataContext.get_current().enable_progress_bars = False
    rows = [{"number": task.number, "retry": task.retry} for task in tasks]
    found = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Actor,
        fn_constructor_args=(worker,),
        batch_size=1,
        compute=data.ActorPoolStrategy(size=actors),
        **list_needs(worker),
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )
    for row in found.iter_rows():
        yield PartResult(int(row["number"]), int(row["made"]), int(row["failed"]))


def _start(ray: Any, actors: int, threads: int) -> None:
    """Join the cluster that the environment names, or start one with a processor more than the actors take."""
    here = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": actors * threads + 1, "include_dashboard": False}
    ray.init(logging_level="warning", log_to_driver=False, **here)


def list_needs(worker: PartWorker) -> dict[str, int]:
    """List what an actor takes: a processor for each thread, and a GPU where the artifact runs on one.

    Raises:
        InputError: a GPU with a number; Ray gives each actor one, which is its first.
    """
    device = worker.explainer.device or "cpu"
    if ":" in device:
        raise InputError(f"device is {device!r}; on Ray each actor gets a GPU of its own: expected 'cuda'.")
    return {"num_cpus": worker.explainer.threads or 1, **({} if device == "cpu" else {"num_gpus": 1})}


def _choose_actors(ray: Any, worker: PartWorker, actors: int | None, parts: int) -> int:
    needs, there = list_needs(worker), ray.cluster_resources()
    threads = needs["num_cpus"]
    most = int((there.get("CPU", 1) - 1) // threads)
    if "num_gpus" in needs:
        most = min(most, int(there.get("GPU", 0)))
    if most < (actors or 1):
        gpus = f" and a GPU, of which there are {there.get('GPU', 0):.0f}," if "num_gpus" in needs else ""
        raise InputError(
            f"{actors or 1} actor(s) of {threads} thread(s){gpus} were asked for; this cluster has room for {most}, "
            "since listing the parts takes a processor, too. Ask for fewer, or join a larger cluster."
        )
    return min(actors or most, parts)
