"""``explain_data_set``: photos and an artifact in, a run folder with one row per photo out."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from explainable_model.batch.batch_explainer import BATCH, BatchExplainer
from explainable_model.batch.check import RowCheck, check_rows
from explainable_model.batch.labels import Labels, read_labels
from explainable_model.batch.layout import Layout, choose_layout, count_cores, with_threads
from explainable_model.batch.manifest import Manifest, write_manifest
from explainable_model.batch.parts import PartResult, PartTask, PartWorker
from explainable_model.batch.pool import Pool
from explainable_model.batch.run_folder import RunFolder, open_run
from explainable_model.batch.run_state import check_fingerprint, lock_folder, write_record
from explainable_model.batch.schema import import_pyarrow
from explainable_model.batch.sources import list_photos
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explainer.answers import TOP
from explainable_model.explanation import Progress
from explainable_model.paths import as_path
from explainable_model.progress import ProgressLike, as_progress

ENGINES = ("local", "ray")
LONGEST_PART, SHORTEST_PART, PARTS_PER_CORE = 1000, 50, 4
Source = str | Path


@dataclass(frozen=True)
class BatchSummary:
    """What a run holds, and what this call did.

    Attributes:
        folder: of the run.
        photos: how many the run has; each has one row.
        explained: how many rows this call made.
        failed: how many rows have an error.
        errors: the first errors, by id.
        copies: how many photos have the content of an earlier one.
        repeated: how many photos were named more than once.
        added, gone: how many photos are new since the run began, and how many of it are no longer named.
        labels: how the labels met the photos; ``None`` without a file of labels.
        cam_source: how the maps came to their size.
        layout: processes and threads; ``None`` where nothing was left to do, or on a cluster.
        seconds: of this call.
    """

    folder: Path
    photos: int
    explained: int
    failed: int
    errors: dict[str, str]
    copies: int
    repeated: int
    added: int
    gone: int
    labels: Labels | None
    cam_source: str
    layout: Layout | None
    seconds: float


def explain_data_set(
    artifact: str | Path,
    sources: Source | Sequence[Source],
    out: str | Path,
    *,
    class_idx: int | str | None = None,
    top: int = TOP,
    labels: str | Path | None = None,
    folder_labels: bool = False,
    batch: int = BATCH,
    processes: int | None = None,
    threads: int | None = None,
    part_rows: int | None = None,
    retry_failed: bool = False,
    engine: str = "local",
    device: str | None = None,
    trusted: bool = False,
    progress: ProgressLike = None,
) -> BatchSummary:
    """Explain every photo of a data set, and write one row per photo, in order.

    A call on a folder that holds an unfinished run goes on where it stopped. Whatever ends the processes, at most the
    parts in their hands are lost.

    Args:
        artifact: a file made by ``export``.
        sources: folders, patterns, files, tables of paths (``.csv``), WebDataset tars, Parquet files of bytes, stores.
        out: the run folder, new, empty or of the same artifact and options.
        class_idx: the class to explain, by number or name; ``None`` for the predicted class, and for a detector.
        top: how many of the best classes a row lists.
        labels: a CSV file with the columns ``path`` (or ``id``) and ``label``.
        folder_labels: whether the name of a photo's folder is its label.
        batch: how many photos the network gets at once.
        processes, threads: how many; ``None`` chooses them, by a measurement of some seconds from 2,000 photos on. Zero
            processes explain in this one, which a damaged photo may then end. On a cluster, actors and their threads.
        part_rows: rows of a part; ``None`` for 50 to 1,000.
        retry_failed: also make the rows again that have an error.
        engine: ``local`` or ``ray``.
        device: as of ``load``: ``cuda`` for TorchScript on a GPU. On a cluster each actor gets a GPU of its own.
        trusted: as of ``load``.
        progress: ``True`` for a bar, or a function of (``"listing"`` or ``"photos"``, done, in all).

    Raises:
        InputError: no photos, options that do not fit, a folder of another run, or a run that another process writes.
        ArtifactError: the artifact does not open, or rows cannot be written; the rows that were written stay.
        MissingRuntimeError: pyarrow or Ray is not installed.
    """
    import_pyarrow()
    started = time.perf_counter()
    if engine not in ENGINES:
        raise InputError(f"engine is {engine!r}; expected {' or '.join(ENGINES)}.")
    for name, count, least in (("processes", processes, 0), ("threads", threads, 1), ("part_rows", part_rows, 1)):
        if count is not None and (type(count) is not int or count < least):
            raise InputError(f"{name} is {count!r}; expected a whole number from {least} on.")
    named = [sources] if isinstance(sources, str | Path) else list(sources)
    tell: Progress = as_progress(progress) or (lambda *_: None)
    explainer = BatchExplainer(artifact, class_idx=class_idx, top=top, batch=batch, device=device, trusted=trusted)
    opened = explainer.open()
    found = None if labels is None else read_labels(labels)
    asked = opened.resolve(explainer.class_idx)
    labeled = found.sha256 if found is not None else None
    options = {"class": asked, "top": top, "labels": labeled, "folder_labels": folder_labels}
    with lock_folder(as_path(out)) as folder:
        check_fingerprint(folder, opened, options)
        photos = list_photos(named, folder_labels=folder_labels)
        listed = write_manifest(
            photos if found is None else map(found.label, photos),
            folder,
            lambda total: part_rows or _choose_part_rows(total, processes or count_cores()),
            lambda count: tell("listing", count, -1),
        )
        write_record(folder, opened, options, listed)
        run = open_run(folder)
        before = check_rows(run, listed)
        tasks = _list_tasks(before, retry_failed)
        left = listed.photos - before.rows + (before.failed if retry_failed else 0)
        steps = _Steps(tell, listed.photos - left, listed.photos)
        worker = PartWorker(folder, explainer)
        layout = _run(worker, listed, tasks, left, engine, processes, threads, steps) if tasks else None
        checked = _check(run, listed)
    return BatchSummary(
        folder, listed.photos, left, checked.failed, checked.errors, checked.copies, listed.repeated,
        listed.added, listed.gone, found, run.record["cam_source"], layout, time.perf_counter() - started,
    )  # fmt: skip


def _choose_part_rows(photos: int, cores: int) -> int:
    """So many that every core gets some parts, and no more than a kill may cost."""
    return max(SHORTEST_PART, min(LONGEST_PART, -(-photos // (PARTS_PER_CORE * cores))))


def _list_tasks(checked: RowCheck, retry_failed: bool) -> list[PartTask]:
    again = [PartTask(number, retry=True) for number in checked.with_errors] if retry_failed else []
    return [PartTask(number) for number in checked.unfinished] + again


class _Steps:
    """Tells how many photos are done: those of finished parts, and those of parts in hand."""

    def __init__(self, tell: Progress, done: int, total: int) -> None:
        self._tell, self._done, self._total, self._unfinished = tell, done, total, 0
        tell("photos", done, total)

    def show_unfinished(self, count: int) -> None:
        self._unfinished = count
        self._tell("photos", min(self._done + count, self._total), self._total)

    def hear(self, kind: str, value: str | int) -> None:
        if kind == "done":
            self.show_unfinished(int(value))

    def follow(self, results: Iterable[PartResult]) -> None:
        for result in results:
            self._done += result.made
            self.show_unfinished(max(0, self._unfinished - result.made))


def _run(
    worker: PartWorker,
    listed: Manifest,
    tasks: list[PartTask],
    left: int,
    engine: str,
    processes: int | None,
    threads: int | None,
    steps: _Steps,
) -> Layout | None:
    if engine == "ray":
        from explainable_model.batch.ray_engine import run_on_ray

        steps.follow(run_on_ray(with_threads(worker, threads or 1), tasks, processes))
        return None
    if processes == 0:
        alone = with_threads(worker, threads or 1)
        steps.follow(alone.explain(task, steps.hear) for task in tasks)
        return Layout(0, threads or 1)
    layout = choose_layout(worker, listed.read_part(tasks[0].number), left, processes, threads)
    layout = replace(layout, processes=min(layout.processes, len(tasks)))
    with Pool(with_threads(worker, layout.threads), layout.processes) as pool:
        steps.follow(pool.run(tasks, steps.show_unfinished))
    return layout


def _check(run: RunFolder, listed: Manifest) -> RowCheck:
    """Check that each photo has exactly one row, in order.

    Raises:
        ArtifactError: it has not, whatever the engine said.
    """
    checked = check_rows(run, listed)
    if checked.unfinished:
        parts = ", ".join(map(str, checked.unfinished[:5]))
        raise ArtifactError(
            f"{run.path} lacks rows of {listed.photos - checked.rows} photos (parts {parts}), although every part was "
            "reported as written; run the same command again."
        )
    return checked
