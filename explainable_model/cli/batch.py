"""``explainable-model batch``: explain a data set, one row per photo."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import FAILED, Outcome, show_warnings

if TYPE_CHECKING:
    from explainable_model.batch.run import BatchSummary

SHOWN = 3


def batch(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Explain every photo; a photo that cannot be read is a row with its error, and does not stop the others."""
    from explainable_model.batch.run import explain_data_set

    with console.track_progress() as progress, show_warnings(console):
        try:
            found = explain_data_set(
                arguments.file,
                arguments.photos,
                arguments.out,
                class_idx=arguments.class_name,
                top=arguments.top,
                labels=arguments.labels,
                folder_labels=arguments.folder_labels,
                batch=arguments.batch,
                processes=arguments.processes,
                threads=arguments.threads,
                part_rows=arguments.part,
                retry_failed=arguments.retry_failed,
                engine=arguments.engine,
                device=arguments.device,
                trusted=arguments.trusted,
                progress=progress,
            )
        except KeyboardInterrupt:
            console.warn(f"What is written in {arguments.out} stays; the same command goes on there.")
            raise
    errors = [f"{name}: {text}" for name, text in list(found.errors.items())[:SHOWN]]
    if found.failed > SHOWN:
        errors.append(f"{found.failed - SHOWN} more photos have an error; see the column error.")
    for note in _list_notes(found):
        console.warn(note)
    return Outcome(_describe(found), _to_record(found), FAILED if found.failed else 0, errors)


def _describe(found: "BatchSummary") -> str:
    rate = f", {found.explained / found.seconds:.1f} photos/s" if found.explained else ""
    layout = f", {found.layout.processes} process(es) of {found.layout.threads} thread(s)" if found.layout else ""
    return (
        f"{found.photos:,} photos, {found.explained:,} explained now in {found.seconds:.1f} s{rate}{layout}; "
        f"{found.failed:,} with an error. Maps: {found.cam_source}. One row each, in order -> {found.folder}"
    )


def _list_notes(found: "BatchSummary") -> Iterator[str]:
    if found.repeated:
        yield f"{found.repeated} photo(s) were named more than once; each has one row."
    if found.copies:
        yield f"{found.copies} photo(s) have the content of another one; the column sha256 tells which."
    if found.added:
        yield f"{found.added} photo(s) are new since this run began; their rows come last."
    if found.gone:
        yield f"{found.gone} photo(s) of this run are no longer named; their rows stay."
    if found.labels is not None:
        unused = found.labels.unused
        if unused:
            yield f"{len(unused)} label(s) meet no photo: {', '.join(unused[:SHOWN])}{', ...' * (len(unused) > SHOWN)}."
        if found.labels.unlabeled:
            yield f"{found.labels.unlabeled} photo(s) have no label."


def _to_record(found: "BatchSummary") -> dict[str, Any]:
    labels = found.labels
    return {
        "folder": str(found.folder),
        "photos": found.photos,
        "explained": found.explained,
        "failed": found.failed,
        "errors": found.errors,
        "copies": found.copies,
        "repeated": found.repeated,
        "added": found.added,
        "gone": found.gone,
        "labels": None if labels is None else {"unused": len(labels.unused), "unlabeled": labels.unlabeled},
        "cam_source": found.cam_source,
        "layout": None if found.layout is None else asdict(found.layout),
        "seconds": found.seconds,
    }
