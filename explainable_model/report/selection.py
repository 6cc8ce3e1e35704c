"""Chooses the photos that the page shows, and their order: wrong and unsure first."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explainable_model.report.against import Pairs
from explainable_model.report.run_table import RIGHT, UNKNOWN, WRONG, RunTable
from explainable_model.report.shortcuts import Cluster

MOST_PHOTOS = 5000
OF_CLUSTERS, OF_PAIRS, OF_WRONG, OF_UNSURE, OF_FAILED = 0.25, 0.25, 0.25, 0.1, 0.05  # shares of a sample
OF_BARE = OF_WRONG  # photos without a box, of a run that has no wrong ones
Rows = NDArray[np.int64]


def sort_rows(table: RunTable) -> Rows:
    """Sort rows: wrong ones (the surest mistakes first), then the others (the least sure first), then failed ones."""
    wrong = table.verdict == WRONG
    score = np.nan_to_num(table.score.astype(np.float64))
    order: Rows = np.lexsort((np.where(wrong, -score, score), ~wrong, table.failed)).astype(np.int64)
    return order


def choose_rows(
    table: RunTable, most: int, clusters: Sequence[Cluster] = (), pairs: Pairs | None = None, seed: int = 0
) -> Rows:
    """Choose the rows of the page, in its order.

    Args:
        table: the run.
        most: how many photos the page shows.
        clusters: as of ``find_shortcuts``; the typical members of the first ones are shown.
        pairs: with another run; flipped photos and moved maps are shown.
        seed: of the photos that are drawn at random.

    Returns:
        All rows where they are not too many. Else the worst of each kind, and photos that were drawn at random.
    """
    order = sort_rows(table)
    if len(order) <= most:
        return order
    chosen = np.zeros(len(table), bool)

    def take(rows: Rows, share: float) -> None:
        left = min(int(share * most), most - int(chosen.sum()))
        chosen[rows[~chosen[rows]][:left]] = True

    alarms = [cluster for cluster in clusters if cluster.alarm] or list(clusters[:4])
    for cluster in alarms:
        take(cluster.rows, OF_CLUSTERS / len(alarms))
    if pairs is not None:
        take(_sort_pairs(pairs), OF_PAIRS)
    take(order[table.verdict[order] == WRONG], OF_WRONG)
    answered = order[~table.failed[order]]
    bare = _is_bare(table)
    take(answered[bare[answered]], OF_BARE)
    take(answered[(table.verdict[answered] != WRONG) & ~bare[answered]], OF_UNSURE)
    take(order[table.failed[order]], OF_FAILED)
    take(np.random.default_rng(seed).permutation(answered), 1.0)
    take(order, 1.0)
    return order[chosen[order]]


def _is_bare(table: RunTable) -> NDArray[np.bool_]:
    """Which rows are of a detector that found no box."""
    bare: NDArray[np.bool_] = (table.explained < 0) & ~table.failed & (table.boxes is not None)
    return bare


def _sort_pairs(pairs: Pairs) -> Rows:
    """Rows of the first run: flipped ones, then those whose maps moved most."""
    moved = np.nan_to_num(pairs.moved)
    noted = np.flatnonzero(pairs.flipped | (moved > 0))
    return pairs.first[noted[np.lexsort((-moved[noted], ~pairs.flipped[noted]))]]


def describe_choice(table: RunTable, shown: Rows) -> str:
    """Say which photos a page leaves out; nothing where it shows all."""
    if len(shown) == len(table):
        return ""
    if table.boxes is not None:
        return _describe_choice_of_boxes(table, shown)
    parts = [
        f"{int((table.verdict[shown] == verdict).sum()):,} of {int((table.verdict == verdict).sum()):,} {name}"
        for verdict, name in ((WRONG, "wrong ones"), (RIGHT, "right ones"), (UNKNOWN, "others"))
        if (table.verdict == verdict).any()
    ]
    return (
        f"The page shows {len(shown):,} of {len(table):,} photos: {', '.join(parts)}. They are the surest mistakes, "
        "the least sure answers, the most typical photos of suspicious groups, and photos drawn at random. Every "
        "figure, average and group is of all photos."
    )


def _describe_choice_of_boxes(table: RunTable, shown: Rows) -> str:
    bare = _is_bare(table)
    kinds = ((bare, "without a box"), (~bare & ~table.failed, "with boxes"), (table.failed, "that failed"))
    parts = [f"{int(rows[shown].sum()):,} of {int(rows.sum()):,} {name}" for rows, name in kinds if rows.any()]
    order = sort_rows(table)
    found = np.isin(order[~bare[order] & ~table.failed[order]], shown)  # the least sure first
    unsure = len(found) if found.all() else int(found.argmin())
    known = f" Among them are the {unsure:,} whose best box is least sure." if unsure else ""
    rest = "The others" if unsure else "Those"
    drawn = f" {rest} with boxes were drawn at random." if unsure < int(found.sum()) else ""
    return (
        f"The page shows {len(shown):,} of {len(table):,} photos: {', '.join(parts)}.{known}{drawn} Every figure is of "
        "all photos."
    )
