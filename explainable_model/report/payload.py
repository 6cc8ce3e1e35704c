"""The content of the page as one record of JSON: figures of all photos, and the photos that are shown."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.imaging.overlay import COLORMAP, SIGNED_COLORMAP, palette
from explainable_model.report.against import MOVED, Pairs
from explainable_model.report.columns import cut
from explainable_model.report.grids import average_maps
from explainable_model.report.proportions import Proportion
from explainable_model.report.run_table import RIGHT, UNKNOWN, WRONG, RunTable
from explainable_model.report.shortcuts import Cluster

FINEST_MAP = 20  # cells a side on the page; a finer map is averaged
MOST_CLUSTERS = 40
MOST_FLIPS = 15
BINS = 24
Record = dict[str, Any]


def encode(values: NDArray[np.uint8]) -> str:
    """Write bytes as base64."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def describe_run(table: RunTable, title: str) -> Record:
    """Describe the whole run: counts, accuracy, classes, strengths."""
    answered = ~table.failed
    return {
        **describe_head(table, title),
        "empty": int((answered & ~table.has_map()).sum()),
        "unsure": int((answered & (table.score < 0.5)).sum()) if table.is_probability else None,
        "accuracy": _share(_measure(table, answered)),
        "classes": _describe_classes(table),
        "strengths": _count_strengths(table),
    }


def describe_head(table: RunTable, title: str) -> Record:
    """Describe what every run has."""
    return {
        "title": title,
        "artifact": table.artifact,
        "photos": len(table),
        "failed": int(table.failed.sum()),
        "probability": table.is_probability,
        "palettes": [encode(palette(COLORMAP)), encode(palette(SIGNED_COLORMAP))],
    }


def _measure(table: RunTable, chosen: NDArray[np.bool_]) -> Proportion | None:
    known = table.verdict[chosen & (table.verdict != UNKNOWN)]
    return Proportion(int((known == RIGHT).sum()), len(known)) if len(known) else None


def _share(found: Proportion | None) -> list[float] | None:
    """Count, total, and the ends of the interval."""
    return None if found is None else [found.hits, found.total, *(round(x, 4) for x in found.interval())]


def _describe_classes(table: RunTable) -> list[Record]:
    has_map = table.has_map()
    order = np.argsort(table.explained, kind="stable")
    classes, starts = np.unique(table.explained[order], return_index=True)
    found = []
    for class_idx, rows in zip(classes.tolist(), np.split(order, starts[1:]), strict=True):
        rows = rows[~table.failed[rows]]
        drawn = rows[has_map[rows]]
        if len(rows) == 0:
            continue
        known = table.verdict[rows][table.verdict[rows] != UNKNOWN]
        accuracy = Proportion(int((known == RIGHT).sum()), len(known)) if len(known) else None
        found.append(
            {
                "name": table.name(class_idx),
                "photos": len(rows),
                "accuracy": _share(accuracy),
                "score": round_number(float(table.score[rows].mean(dtype=np.float64))),
                "strength": float(f"{np.median(table.strength[rows]):.4g}"),
                "empty": len(rows) - len(drawn),
                "map": encode(average_maps(table.maps[drawn])) if len(drawn) else None,
                "grid": table.grid,
            }
        )
    return sorted(found, key=lambda one: -one["photos"])


def _count_strengths(table: RunTable) -> Record | None:
    """Count maps by their strength, in bins of equal ratios, for right, wrong and other answers."""
    usable = table.has_map() & (table.strength > 0) & np.isfinite(table.strength)
    if not usable.any():
        return None
    logs = np.log10(table.strength[usable].astype(np.float64))
    low, high = np.percentile(logs, [0.5, 99.5])
    edges = np.linspace(low, max(high, low + 1e-3), BINS + 1)
    verdicts = table.verdict[usable]
    counts = [
        np.histogram(logs[verdicts == verdict].clip(edges[0], edges[-1]), edges)[0].tolist()
        for verdict in (RIGHT, WRONG, UNKNOWN)
    ]
    return {"low": float(10**low), "high": float(10 ** edges[-1]), "counts": counts}


def describe_clusters(table: RunTable, clusters: Sequence[Cluster], shown: NDArray[np.int64]) -> list[Record]:
    """Describe the first clusters, with the places of their members on the page."""
    position = {row: place for place, row in enumerate(shown.tolist())}
    return [
        {
            "name": one.name,
            "alarm": one.alarm,
            "sure": one.difference is not None and one.difference.is_sure,
            "place": one.place.describe(),
            "share": _share(one.share),
            "agreement": _share(one.agreement),
            "here": _share(one.here),
            "elsewhere": _share(one.elsewhere),
            "accuracy": _share(one.accuracy),
            "rest": _share(one.other_accuracy),
            "difference": None if one.difference is None else [round(x, 4) for x in one.difference],
            "map": encode(one.average),
            "grid": table.grid,
            "members": [position[row] for row in one.rows.tolist() if row in position],
        }
        for one in clusters[:MOST_CLUSTERS]
    ]


def describe_row(table: RunTable, number: int, row: Mapping[str, Any], picture: str, missing: str) -> Record:
    """Describe one photo of the page.

    Args:
        table: the run.
        number: of the row.
        row: the whole row, with the ``name`` that the page shows.
        picture: its thumbnail as ``data:`` URL, or nothing.
        missing: why there is none.
    """
    found: Record = {"id": cut(row.get("name") or row["id"]), "right": int(table.verdict[number])}
    if row["label"] is not None:
        found["label"] = cut(row["label"])
    if table.failed[number]:
        return {**found, "error": cut(table.damaged.get(number) or row["error"] or "no answer")}
    predicted, explained = int(table.predicted[number]), int(table.explained[number])
    found |= {"class": table.name(predicted), "score": round_number(row["score"])}
    if predicted != explained:
        found["explained"] = table.name(explained)
    if len(top := [one for one in row["top_k"] or [] if one and one["class"] is not None]) > 1:
        found["top"] = [
            [cut(one["name"]) if one["name"] else table.name(one["class"]), round_number(one["score"])]
            for one in top[:5]
        ]
    found |= {"strength": float(f"{table.strength[number]:.4g}"), "crop": round_all(table.crop[number])}
    found |= {key: round_number(row[key]) for key in ("entropy", "hottest_tenth") if row[key] is not None}
    if row["width"] and row["height"] and min(row["width"], row["height"]) > 0:
        found["size"] = [row["width"], row["height"]]
    if table.maps[number].any() or table.signed:
        found |= pack_map(row)
    return {**found, "picture": picture} if picture else {**found, "missing": missing}


def pack_map(row: Mapping[str, Any], finest: int = FINEST_MAP) -> Record:
    """The bytes of a map, of at most so many cells a side."""
    from PIL import Image

    levels = np.frombuffer(row["cam"], np.uint8).reshape(row["cam_height"], row["cam_width"])
    if max(levels.shape) > finest:
        shrink = finest / max(levels.shape)
        height, width = (max(1, round(side * shrink)) for side in levels.shape)
        levels = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))
    return {"map": encode(levels), "grid": levels.shape, "zero": int(row["cam_zero"] or 0)}


def describe_pairs(first: RunTable, second: RunTable, pairs: Pairs) -> Record:
    """Describe how a second run differs from the first."""
    both = ~first.failed[pairs.first] & ~second.failed[pairs.second]
    one, other = first.verdict[pairs.first], second.verdict[pairs.second]
    judged = both & (one != UNKNOWN) & (other != UNKNOWN)
    kinds, counts = np.unique(
        np.stack([first.predicted[pairs.first], second.predicted[pairs.second]])[:, pairs.flipped],
        axis=1,
        return_counts=True,
    )
    flips = [
        [first.name(a), second.name(b), count]
        for count, a, b in sorted(zip(counts.tolist(), *kinds.tolist(), strict=True), reverse=True)
    ]
    moved = pairs.moved[np.isfinite(pairs.moved)]
    return {
        "photos": len(pairs.first),
        "answered": int(both.sum()),
        "flipped": _share(Proportion(int(pairs.flipped.sum()), int(both.sum()))),
        "moved": _share(Proportion(int((moved > MOVED).sum()), len(moved))),
        "median": round(float(np.median(moved)), 4) if len(moved) else None,
        "first": _share(Proportion(int((one[judged] == RIGHT).sum()), int(judged.sum()))) if judged.any() else None,
        "second": _share(Proportion(int((other[judged] == RIGHT).sum()), int(judged.sum()))) if judged.any() else None,
        "lost": int(((one == RIGHT) & (other == WRONG) & both).sum()),
        "won": int(((one == WRONG) & (other == RIGHT) & both).sum()),
        "changed": pairs.changed,
        "only": [pairs.only_first, pairs.only_second],
        "flips": flips[:MOST_FLIPS],
        "artifact": second.artifact.get("name", ""),
    }


def describe_other(table: RunTable, number: int, row: Mapping[str, Any], flipped: bool, moved: float) -> Record:
    """Describe a photo in the other run."""
    found = describe_row(table, number, row, "", "")
    kept = ("class", "score", "right", "error", "map", "grid", "zero", "crop")
    return {
        **{key: found[key] for key in kept if key in found},
        "flipped": flipped,
        "moved": None if np.isnan(moved) else round(moved, 3),
    }


def round_number(value: float | None) -> float | None:
    """Round to four digits; ``None`` for what is no number."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")


def round_all(values: NDArray[np.floating[Any]]) -> list[float]:
    """Round shares to four decimals."""
    return [round(float(value), 4) for value in values]
