"""Finds groups of maps that look at one place of the photo, which the other classes do not look at."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.progress import ProgressLike, as_progress
from explainable_model.report.clusters import check_scikit_learn, cluster_maps
from explainable_model.report.grids import Levels, Place, as_shares, average_maps, find_hottest, is_near
from explainable_model.report.proportions import Difference, Proportion, subtract
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RIGHT, UNKNOWN, RunTable

SMALLEST_GRID = 4  # cells a side; on a coarser grid every map looks into a corner
SMALLEST_CLUSTER = 5  # photos
CHANCE = 0.01  # of an alarm by chance in a whole run, of which every place of every class is tried (Bonferroni)
RATIO = 2.0  # how many times more often a class must look there than the others
EXCESS = 0.05  # the smallest difference of the two shares that is worth an alarm
AGREEMENT = 0.5  # the share of the cluster that must surely look at the same place
COMPACT = 0.25  # the largest share of the photo that the place of a mark covers


@dataclass(frozen=True, eq=False)
class Cluster:
    """Photos of one class whose maps are alike.

    Attributes:
        class_idx: the class that the maps explain.
        name: its name.
        rows: numbers of the rows in the run, the most typical map first.
        share: how many of the class's maps belong to the cluster.
        average: ``(h, w)`` uint8, the average map; 255 is its maximum.
        place: where the cluster is hottest.
        box: left, top, right, bottom of the half maximum of the average, in shares of what the network saw.
        agreement: how many maps of the cluster are hottest in that place.
        here: how many maps of the class are hottest there.
        elsewhere: how many maps of the other classes are hottest there; ``None`` without another class.
        accuracy: of the cluster; ``None`` without labels.
        other_accuracy: of the class's other photos.
        difference: of the two accuracies; ``None`` where one is missing.
        alarm: whether the cluster looks like a shortcut: one small place off the middle, in which the class's maps
            are hottest at least twice as often as those of the others, and more often than chance explains.
    """

    class_idx: int
    name: str
    rows: NDArray[np.int64]
    share: Proportion
    average: NDArray[np.uint8]
    place: Place
    box: tuple[float, float, float, float]
    agreement: Proportion
    here: Proportion
    elsewhere: Proportion | None
    accuracy: Proportion | None
    other_accuracy: Proportion | None
    difference: Difference | None
    alarm: bool

    @property
    def excess(self) -> float:
        """How much more often the class looks there than the other classes do; 0 without another class."""
        return self.here.share - self.elsewhere.share if self.elsewhere else 0.0

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Larger is more suspicious: alarms, then clusters of another accuracy than the rest of their class."""
        return self.alarm, self.difference is not None and self.difference.is_sure, self.excess

    def __str__(self) -> str:
        parts = [f"{self.name}: {self.share.hits} of {self.share.total} maps look at the {self.place.describe()}"]
        if self.elsewhere:
            parts.append(f"{self.here} of the class and {self.elsewhere} of the others are hottest there")
        if self.accuracy:
            parts.append(f"accuracy {self.accuracy}")
        return ("SHORTCUT? " if self.alarm else "") + "; ".join(parts)


def find_shortcuts(run: str | Path | RunTable, progress: ProgressLike = None) -> list[Cluster]:
    """Cluster the maps of each class, and rank the clusters: the most suspicious first.

    A shortcut is a mark that comes with a class, such as a hospital's marker in the corner of its radiographs. Maps
    alone cannot tell it from a subject that always lies in the same place, so look at the photos of a cluster before
    you believe it. A mark in the middle of the photo raises no alarm.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        progress: ``True`` for a bar, or a function of the step, how many classes are done, and how many there are.

    Returns:
        Every cluster of at least five photos; none where the maps have fewer than four cells a side.

    Raises:
        InputError, ArtifactError: as ``read_run``; or the run of a detector.
        MissingRuntimeError: pyarrow or scikit-learn is not installed.

    Source: spectral relevance analysis (SpRAy), Lapuschkin et al. 2019, arXiv 1902.10178.
    """
    check_scikit_learn()
    tell = as_progress(progress)
    table = run if isinstance(run, RunTable) else read_run(run, tell)
    if table.boxes is not None:
        raise InputError(
            f"{table.folder.path} is the run of a detector, whose photos have no class and no map of their own to be "
            "grouped by; look at the share of each map inside its box."
        )
    found: list[Cluster] = []
    if min(table.grid) < SMALLEST_GRID:
        return found
    usable = np.flatnonzero(table.has_map())
    hottest = find_hottest(table.maps[usable]) if len(usable) else np.zeros((0, 2))
    classes = np.unique(table.explained[usable])
    tries = max(1, len(classes)) * table.grid[0] * table.grid[1]
    deviations = NormalDist().inv_cdf(1 - CHANCE / tries)
    for done, class_idx in enumerate(classes):
        found += _describe_class(table, usable, hottest, int(class_idx), deviations)
        if tell:
            tell("clusters", done + 1, len(classes))
    ranked = sorted(found, key=lambda cluster: cluster.rank, reverse=True)
    return sorted(_keep_one_alarm(ranked, table.grid), key=lambda cluster: cluster.rank, reverse=True)


def _keep_one_alarm(ranked: list[Cluster], grid: tuple[int, int]) -> list[Cluster]:
    """Raise one alarm for each place of a class: that of the most suspicious of the clusters around it."""
    kept: list[Cluster] = []
    for cluster in ranked:
        seen = np.array([one.place for one in kept if one.alarm and one.class_idx == cluster.class_idx]).reshape(-1, 2)
        around = bool(is_near(seen, cluster.place, grid, reach=2).any())
        kept.append(replace(cluster, alarm=cluster.alarm and not around))
    return kept


def _describe_class(
    table: RunTable, usable: NDArray[np.int64], hottest: NDArray[np.float64], class_idx: int, deviations: float
) -> list[Cluster]:
    inside = table.explained[usable] == class_idx
    rows, points, others = usable[inside], hottest[inside], hottest[~inside]
    if len(rows) < SMALLEST_CLUSTER:
        return []
    groups = _join_places(cluster_maps(table.maps[rows]), points, table.grid)
    sizes = np.bincount(groups)
    return [
        _describe_cluster(table, rows, points, others, groups == group, deviations)
        for group in np.flatnonzero(sizes >= SMALLEST_CLUSTER)
    ]


def _join_places(groups: NDArray[np.int64], points: NDArray[np.float64], grid: tuple[int, int]) -> NDArray[np.int64]:
    """Join each group with the first larger one that is hottest in the same place."""
    places: list[NDArray[np.float64]] = []
    joined = np.empty_like(groups)
    for group in range(int(groups.max()) + 1):
        place = np.median(points[groups == group], 0)
        same = np.flatnonzero(is_near(np.array(places).reshape(-1, 2), place.tolist(), grid, reach=0.8))
        joined[groups == group] = same[0] if len(same) else len(places)
        places.append(np.full(2, np.inf) if len(same) else place)
    return joined


def _describe_cluster(
    table: RunTable,
    rows: NDArray[np.int64],
    points: NDArray[np.float64],
    others: NDArray[np.float64],
    member: NDArray[np.bool_],
    deviations: float,
) -> Cluster:
    maps, grid = table.maps[rows[member]], table.grid
    average = average_maps(maps)
    place = Place(*(float(value) for value in np.median(points[member], 0)))

    def count_near(some: NDArray[np.float64]) -> Proportion:
        return Proportion(int(is_near(some, place, grid).sum()), len(some))

    agreement, here = count_near(points[member]), count_near(points)
    elsewhere = count_near(others) if len(others) else None
    accuracy, other_accuracy = _measure(table, rows[member]), _measure(table, rows[~member])
    box, area = _find_box(average)
    return Cluster(
        int(table.explained[rows[0]]),
        table.name(int(table.explained[rows[0]])),
        rows[member][_sort_by_typicality(maps, average)],
        Proportion(int(member.sum()), len(rows)),
        average,
        place,
        box,
        agreement,
        here,
        elsewhere,
        accuracy,
        other_accuracy,
        subtract(accuracy, other_accuracy) if accuracy and other_accuracy else None,
        alarm=not place.is_middle
        and area <= COMPACT
        and agreement.interval()[0] >= AGREEMENT
        and elsewhere is not None
        and _is_apart(here, elsewhere, deviations),
    )


def _is_apart(here: Proportion, elsewhere: Proportion, deviations: float) -> bool:
    """Whether a class looks at a place clearly more often than the others do."""
    larger = here.share >= RATIO * elsewhere.share and here.share - elsewhere.share >= EXCESS
    return larger and subtract(here, elsewhere, deviations).low > 0


def _measure(table: RunTable, rows: NDArray[np.int64]) -> Proportion | None:
    known = table.verdict[rows][table.verdict[rows] != UNKNOWN]
    return Proportion(int((known == RIGHT).sum()), len(known)) if len(known) else None


def _find_box(average: NDArray[np.uint8]) -> tuple[tuple[float, float, float, float], float]:
    """The box of the half maximum, and its area, in shares."""
    rows, columns = np.nonzero(average >= 128)
    height, width = average.shape
    left, right = float(columns.min() / width), float((columns.max() + 1) / width)
    top, bottom = float(rows.min() / height), float((rows.max() + 1) / height)
    return (left, top, right, bottom), (right - left) * (bottom - top)


def _sort_by_typicality(maps: Levels, average: NDArray[np.uint8]) -> NDArray[np.int64]:
    common = np.minimum(as_shares(maps), as_shares(average[None])).sum((1, 2))
    order: NDArray[np.int64] = np.argsort(-common, kind="stable")
    return order
