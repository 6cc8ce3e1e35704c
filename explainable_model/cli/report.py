"""``explainable-model report``: write the page of a run."""

import argparse
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, format_bytes

if TYPE_CHECKING:
    from explainable_model.report import Cluster, Proportion, Report


def report(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write the page, and say what it found."""
    from explainable_model.report import write_coco, write_label_studio, write_report

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
    text, record = _describe(found), _record(found)
    if arguments.coco is not None:
        boxes = write_coco(arguments.run, arguments.coco)
        text += f"\n-> {arguments.coco} ({boxes:,} boxes)"
        record["coco"] = {"path": str(arguments.coco), "boxes": boxes}
    if arguments.label_studio is not None:
        tasks = write_label_studio(arguments.run, arguments.label_studio)
        text += f"\n-> {arguments.label_studio} ({tasks:,} tasks)"
        record["label_studio"] = {"path": str(arguments.label_studio), "tasks": tasks}
    return Outcome(text, record)


def _describe(found: "Report") -> str:
    shown = f"{found.shown:,} of {found.photos:,} photos" if found.shown < found.photos else f"{found.photos:,} photos"
    lines = [str(cluster) for cluster in found.alarms] or ["No group of maps looks like a shortcut."]
    if found.boxes is not None:
        lines = [f"{found.boxes:,} boxes in {found.photos:,} photos."]
    return "\n".join([*lines, f"-> {found.path} ({shown}, {format_bytes(found.size)})"])


def _record(found: "Report") -> dict[str, Any]:
    return {
        "path": str(found.path),
        "photos": found.photos,
        "shown": found.shown,
        "bytes": found.size,
        "boxes": found.boxes,
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
