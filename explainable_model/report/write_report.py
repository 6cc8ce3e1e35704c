"""Writes the report of a run: one file of HTML that loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError, MissingRuntimeError
from explainable_model.explanation import Progress
from explainable_model.paths import as_path
from explainable_model.progress import ProgressLike, as_progress
from explainable_model.report.against import Pairs, pair_runs
from explainable_model.report.box_payload import describe_box_row, describe_box_run, describe_cut
from explainable_model.report.contents import find_listed
from explainable_model.report.page import draw_page
from explainable_model.report.payload import (
    Record,
    describe_clusters,
    describe_other,
    describe_pairs,
    describe_row,
    describe_run,
)
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RunTable
from explainable_model.report.selection import MOST_PHOTOS, Rows, choose_rows, describe_choice
from explainable_model.report.shortcuts import SMALLEST_GRID, Cluster, find_shortcuts
from explainable_model.report.thumbnails import MOST_BESIDE_BOXES, MOST_BYTES, make_thumbnails
from explainable_model.writing import resolve_target, write_bytes


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: the file.
        photos: rows of the run.
        shown: photos on the page.
        clusters: as of ``find_shortcuts``, the most suspicious first.
        notes: what the page tells its reader before all else.
        size: bytes of the file.
        boxes: how many a detector found; ``None`` for a run of classes.
    """

    path: Path
    photos: int
    shown: int
    clusters: Sequence[Cluster]
    notes: Sequence[str]
    size: int
    boxes: int | None = None

    @property
    def alarms(self) -> list[Cluster]:
        """The clusters that look like shortcuts."""
        return [cluster for cluster in self.clusters if cluster.alarm]


def write_report(
    run: str | Path,
    path: str | Path,
    *,
    against: str | Path | None = None,
    photos: str | Path | None = None,
    thumbnails: bool = True,
    limit: int = MOST_PHOTOS,
    title: str | None = None,
    progress: ProgressLike = None,
) -> Report:
    """Write the report of a run as one page, which needs no server and asks no host.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        path: where to write, ending in ``.html``.
        against: another run of the same photos: the page shows flipped classes and moved maps. Not for boxes.
        photos: a folder in which the photos lie now, where it is not the folder of then.
        thumbnails: whether the page holds small pictures of the photos.
        limit: how many photos the page shows at most. Of more, it shows the worst and a sample, and says so; its
            figures are of all photos.
        title: of the page.
        progress: ``True`` for a bar, or a function of the step, how many are done, and how many there are.

    Returns:
        The file, the clusters and the notes.

    Raises:
        InputError: no run, a run without rows, two runs without a common photo, boxes beside another run, or a limit
            below 1.
        ArtifactError: a damaged run, one of a newer schema, or a file that cannot be written.
        MissingRuntimeError: pyarrow is not installed. Without scikit-learn the page has no search for shortcuts.
    """
    target, folder = _check(path, photos, limit)
    tell = as_progress(progress)
    table = read_run(run, tell)
    other = None if against is None else read_run(against, tell)
    _refuse_boxes(table, other)
    clusters, notes = _search(table, tell)
    pairs = None if other is None else pair_runs(table, other)
    shown = choose_rows(table, limit, clusters, pairs)
    title = title or f"Explained photos: {table.folder.path.resolve().name}"
    boxes = table.boxes
    content = describe_run(table, title) if boxes is None else describe_box_run(table, boxes, title)
    content["rows"], lost = _describe_rows(table, shown, folder, thumbnails, tell)
    content["clusters"] = describe_clusters(table, clusters, shown)
    if other is not None and pairs is not None:
        content["against"] = describe_pairs(table, other, pairs)
        _add_others(content["rows"], shown, other, pairs)
        notes += [f"The other run: {note}" for note in other.notes]
    many = [] if boxes is None else describe_cut(boxes, shown)
    notes = [*filter(None, [describe_choice(table, shown)]), *many, *table.notes, *notes, *lost]
    content["notes"] = notes
    page = draw_page(content).encode("utf-8", "replace")
    write_bytes(target, page)
    return Report(target, len(table), len(shown), clusters, notes, len(page), None if boxes is None else len(boxes))


def _check(path: str | Path, photos: str | Path | None, limit: int) -> tuple[Path, Path | None]:
    target = as_path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"The report is {target}; expected a file that ends in .html.")
    resolve_target(target)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise InputError(f"limit is {limit!r}; expected a number of photos, at least 1.")
    folder = None if photos is None else as_path(photos)
    if folder is not None and not folder.is_dir():
        raise InputError(f"There is no folder {folder}; expected the one in which the photos lie now.")
    return target, folder


def _refuse_boxes(*tables: RunTable | None) -> None:
    """Refuse boxes side by side.

    Raises:
        InputError: there are two runs, and one is a detector's.
    """
    found = [table for table in tables if table is not None and table.boxes is not None]
    if found and None not in tables:
        raise InputError(
            f"{found[0].folder.path} is the run of a detector; side by side are the one class and the one map of each "
            "photo, which boxes do not have. Leave out the other run, and write a report of each."
        )


def _search(table: RunTable, tell: Progress | None) -> tuple[list[Cluster], list[str]]:
    if table.boxes is not None:
        return [], []
    try:
        clusters = find_shortcuts(table, tell)
    except MissingRuntimeError as error:
        return [], [str(error)]
    if min(table.grid) < SMALLEST_GRID and not table.failed.all():
        height, width = table.grid
        return [], [
            f"The maps have {height} x {width} cells, too few to search for shortcuts; expected {SMALLEST_GRID} a side."
        ]
    return clusters, []


def _describe_rows(
    table: RunTable, shown: Rows, folder: Path | None, thumbnails: bool, tell: Progress | None
) -> tuple[list[Record], list[str]]:
    """Describe the photos of the page in its order, and note the photos that were not at hand."""
    rows: dict[int, dict[str, Any]] = dict(table.read_rows(shown))
    common = find_common_folder([row["id"] for row in rows.values()])
    for row in rows.values():
        row["name"] = row["id"].removeprefix(common)
        row["error"] = hide_folders(row["error"], row["uri"])
    asked = [number for number in shown.tolist() if not table.failed[number]] if thumbnails else []
    listed = find_listed(table.folder.path, [rows[n]["id"] for n in asked])
    most = MOST_BYTES if table.boxes is None else MOST_BESIDE_BOXES
    pictures = dict(zip(asked, make_thumbnails([rows[n] for n in asked], listed, folder, tell, most), strict=True))
    describe = describe_row if table.boxes is None else describe_box_row
    described = [describe(table, n, rows[n], *pictures.get(n, ("", ""))) for n in shown.tolist()]
    reasons: dict[str, int] = {}
    for picture, reason in pictures.values():
        if not picture:
            reasons[reason] = reasons.get(reason, 0) + 1
    hint = "" if folder else " Name the folder in which the photos lie now: photos=, --photos."
    return described, [
        f"{count:,} of {len(asked):,} photos have no picture here: {reason}.{hint if 'not found' in reason else ''}"
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])[:4]
    ]


def hide_folders(error: str | None, uri: str | None) -> str | None:
    """Leave out of an error the folders of its photo, which are of the machine that made the run."""
    for path in filter(None, (uri or "", (uri or "").split("#")[0])):
        error = None if error is None else error.replace(path, path.rpartition("/")[2])
    return error


def find_common_folder(names: Sequence[str]) -> str:
    """The folder that all names begin with, with its slash; names of one page are shown without it."""
    first, last = min(names, default=""), max(names, default="")
    length = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    return first[: first.rfind("/", 0, length) + 1]


def _add_others(described: list[Record], shown: Rows, other: RunTable, pairs: Pairs) -> None:
    """Add to each photo of the page what the other run says of it."""
    places = dict(zip(pairs.first.tolist(), range(len(pairs.first)), strict=True))
    common = {place: places[row] for place, row in enumerate(shown.tolist()) if row in places}
    rows = dict(other.read_rows(pairs.second[np.array(list(common.values()), np.int64)]))
    for place, pair in common.items():
        number = int(pairs.second[pair])
        rows[number]["error"] = hide_folders(rows[number]["error"], rows[number]["uri"])
        described[place]["other"] = describe_other(
            other, number, rows[number], bool(pairs.flipped[pair]), float(pairs.moved[pair])
        )
