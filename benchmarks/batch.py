"""``python -m benchmarks batch``: what a data set costs, beside the plain network and pytorch-grad-cam.

Every contestant decodes the same JPEG files. The plain loop is the same network without maps in the same runtime, which
prepares photos with the same function. Figures per processor second hold on a machine that others use, too.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.batch_contestants import (
    BATCH,
    measure_kill,
    measure_listing,
    run_batch,
    run_peer,
    run_plain,
    write_artifacts,
)
from benchmarks.batch_photos import make_photos
from benchmarks.isolation import Figures, run_isolated
from benchmarks.results import RESULTS
from benchmarks.tables import make_table
from benchmarks.timing import describe_environment

SCRATCH = Path("build/benchmarks/batch")
PHOTOS = 5000
PEER_SHARE = 10  # the library that is measured beside gets a tenth of the photos


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything and write ``results/batch.json`` and ``batch.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks batch", description=__doc__)
    parser.add_argument("--photos", type=int, default=PHOTOS, metavar="N", help="default: %(default)s")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N", help="default: 1 2")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="in turn; default: %(default)s")
    parser.add_argument("--listed", type=int, default=1_000_000, metavar="N", help="names; default: %(default)s")
    parser.add_argument("--note", default="", help="what else ran on the machine")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(sys.argv[2:] if argv is None else argv)
    photos = make_photos(arguments.scratch / f"photos-{arguments.photos}", arguments.photos)
    artifacts = run_isolated(write_artifacts, arguments.scratch)["paths"]
    rows: dict[str, list[Figures]] = {}
    for number in range(arguments.rounds):
        for key, figures in _measure_round(artifacts, photos, arguments.scratch, arguments.processes):
            print(f"round {number + 1}: {key}: {figures}", file=sys.stderr, flush=True)
            rows.setdefault(key, []).append(figures)
    kill = measure_kill(artifacts[1], photos, arguments.scratch, max(arguments.processes))
    found = {"environment": describe_environment(), "photos": arguments.photos, "note": arguments.note}
    found |= {"jpeg_bytes": sum(path.stat().st_size for path in photos.iterdir()), "rows": rows, "kill": kill}
    found["listing"] = run_isolated(measure_listing, arguments.scratch, arguments.listed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "batch.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (arguments.out / "batch.md").write_text(to_markdown(found), "utf-8")
    return 0


def _measure_round(
    artifacts: Sequence[Path], photos: Path, scratch: Path, processes: Sequence[int]
) -> Iterator[tuple[str, Figures]]:
    """Each contestant once, in turn."""
    plain, explained, resized = artifacts
    for count in processes:
        words = f"{count} process" if count == 1 else f"{count} processes"
        yield f"plain loop, {words}", run_isolated(run_plain, plain, photos, count)
        yield f"batch, {words}", run_isolated(run_batch, explained, photos, scratch / "run", count)
        yield f"batch of maps at image size, {words}", run_isolated(run_batch, resized, photos, scratch / "run", count)
    few = max(BATCH, len(list(photos.iterdir())) // PEER_SHARE)
    yield "pytorch-grad-cam in a DataLoader, 1 process", run_isolated(run_peer, photos, few)


def to_markdown(found: dict[str, Any]) -> str:
    """The table of the results."""
    best = {key: min(rows, key=lambda row: row["cpu_seconds"] / row["photos"]) for key, rows in found["rows"].items()}
    lines = [_make_line(key, row, best[f"plain loop, {key.rpartition(', ')[2]}"]) for key, row in best.items()]
    head = (
        "",
        "photos",
        "photos/s",
        "photos/CPU s",
        "of the plain loop",
        "peak MiB",
        "bytes per row",
        "MiB at ¼, ½, ¾",
    )
    listing = found["listing"]
    kill, size = found["kill"], found["jpeg_bytes"] / found["photos"] / 1000
    paragraphs = (
        "# A data set, measured",
        f"EfficientNet-Lite0 in ONNX Runtime; {found['photos']} JPEG photos of {size:.0f} kB on average, from 500 by "
        "333 to 1600 by 1200 pixels, cut out of scikit-image's photos. Made by `python -m benchmarks batch` on "
        f"{found['environment']['processor']}; the best of the rounds by processor time. {found['note']}",
        make_table(head, lines).rstrip(),
        "Every contestant decodes the same files with the same function, in batches of 8, with one thread per process. "
        "*Photos/CPU s* counts the time of all processes: their start, the listing and the check of the rows are in "
        "it. *Peak* is that of the largest process; the last column is the memory of the largest during the run.",
        f"**A kill.** The driver of a run of {kill['photos']} photos was killed (`SIGKILL`) halfway, and the same "
        f"command run again, which had {kill['left_after_the_kill']} photos left: in the end {kill['rows']} rows, "
        f"{kill['distinct']} of them distinct, in the order of the files. A kill costs each process at most the part "
        f"in its hands, here {kill['rows_of_a_part']} photos.",
        f"**A long list.** {listing['photos']:,} made-up names were listed in {listing['list_seconds']:.0f} s of one "
        f"core, in {listing['peak_megabytes']:.0f} MiB and {listing['bytes_per_photo']:.0f} bytes per photo on the "
        f"disk; a second run listed and compared them in {listing['again_seconds']:.0f} s. The rows of "
        f"{listing['checked']:,} photos were checked in {listing['check_seconds']:.2f} s.",
    )
    return "\n\n".join(paragraphs) + "\n"


def _make_line(key: str, row: Figures, plain: Figures) -> tuple[object, ...]:
    rate = row["photos_per_cpu_second"]
    stored = f"{row['bytes_per_row']:.0f}" if "bytes_per_row" in row else ""
    memory = " → ".join(f"{size:.0f}" for size in row.get("memory", ()))
    share = f"{rate / plain['photos_per_cpu_second']:.0%}"
    peak = f"{row['peak_megabytes']:.0f}"
    return key, row["photos"], f"{row['photos_per_second']:.1f}", f"{rate:.1f}", share, peak, stored, memory
