"""``explainable-model report``: write the page of a run."""

import argparse
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, format_bytes

if TYPE_CHECKING:
    from explainable_model.report import Cluster, Proportion, Report


def report(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write the page, and say what it found."""
    from explainable_model.report import write_coco, write_report

    with console.track_progress() as progress:
        found = write_report(
            arguments.run,
            arguments.out,
            against=arguments.against,
            photos=arguments.photos,
            thumbnails=not arguments.no_thumbnails,
            limit=arguments.limit,
            title=arguments.title,
            progress=progress,
        )
    for note in found.notes:
        console.warn(note)
    if arguments.coco is None:
        return Outcome(_describe(found), _record(found))
    boxes = write_coco(arguments.run, arguments.coco)
    text = f"{_describe(found)}\n-> {arguments.coco} ({boxes:,} boxes)"
    return Outcome(text, {**_record(found), "coco": {"path": str(arguments.coco), "boxes": boxes}})


def _describe(found: "Report") -> str:
    shown = f"{found.shown:,} of {found.photos:,} photos" if found.shown < found.photos else f"{found.photos:,} photos"
    lines = [str(cluster) for cluster in found.alarms] or ["No group of maps looks like a shortcut."]
    return "\n".join([*lines, f"-> {found.path} ({shown}, {format_bytes(found.size)})"])


def _record(found: "Report") -> dict[str, Any]:
    return {
        "path": str(found.path),
        "photos": found.photos,
        "shown": found.shown,
        "bytes": found.size,
        "notes": list(found.notes),
        "clusters": [_describe_cluster(cluster) for cluster in found.clusters],
    }


def _describe_cluster(cluster: "Cluster") -> dict[str, Any]:
    return {
        "class_idx": cluster.class_idx,
        "name": cluster.name,
        "alarm": cluster.alarm,
        "photos": cluster.share.hits,
        "of": cluster.share.total,
        "place": {"y": cluster.place.y, "x": cluster.place.x, "name": cluster.place.describe()},
        "here": _share(cluster.here),
        "elsewhere": _share(cluster.elsewhere),
        "accuracy": _share(cluster.accuracy),
        "other_accuracy": _share(cluster.other_accuracy),
        "rows": cluster.rows.tolist(),
    }


def _share(found: "Proportion | None") -> dict[str, Any] | None:
    if found is None:
        return None
    low, high = found.interval()
    return {"count": found.hits, "total": found.total, "low": low, "high": high}
