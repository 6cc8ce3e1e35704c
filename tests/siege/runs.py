"""Folders of runs and rows of evaluations that are read again: by the report, by ``batch`` and by ``evaluate``."""

import random
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.siege.cells import run_in_cells
from tests.siege.mutate import damaged
from tests.siege.records import change_json, change_table

ARTIFACT = Path(__file__).parents[1] / "data" / "before.onnx"
MEMORY_MIB = 500.0
PHOTOS = 4
MEASURES = ("average_drop", "sparseness")
RUN, PAGE, ROWS = "run", "report.html", "rows.jsonl"
FILES = {
    "report": (f"{RUN}/run.json", f"{RUN}/rows/part-000000.parquet"),
    "batch": (f"{RUN}/run.json", f"{RUN}/rows/part-000000.parquet", f"{RUN}/manifest.parquet"),
    "evaluate": (ROWS,),
}
"""What each command reads of what an earlier one wrote."""


def run(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Damage each file that each command reads ``count`` times."""
    make_files(folder)
    found: dict[str, Any] = {}
    for command, names in FILES.items():
        for name in names:
            items = _damage((folder / name).read_bytes(), name, count, seed)
            tally = run_in_cells(make_reader, (command, str(folder), name), items, memory_mib=MEMORY_MIB)
            found[f"{command} {Path(name).name}"] = tally.to_record()
    return found


def make_files(folder: Path) -> None:
    """Explain and measure a few photos."""
    from explainable_model.batch import explain_data_set

    (folder / "photos").mkdir()
    for number in range(PHOTOS):
        levels = np.random.default_rng(number).integers(0, 256, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(levels).save(folder / "photos" / f"{number}.png")
    shutil.copy(ARTIFACT, folder / "model.onnx")
    explain_data_set(folder / "model.onnx", folder / "photos", folder / RUN, processes=0)
    _evaluate(folder)


def _evaluate(folder: Path) -> None:
    from explainable_model.evaluation import evaluate

    found = evaluate(folder / "model.onnx", folder / "photos", measures=MEASURES, rows=folder / ROWS)
    for ending in (".json", ".csv", ".html"):
        found.save(folder / f"evaluation{ending}")


def _damage(content: bytes, name: str, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    yield "whole", content
    half = count // 2
    for what, changed in damaged(content, count - half, seed):
        yield f"{name} bytes {what}", changed
    for number in range(half):
        yield f"{name} values {number}", _change(content, name, random.Random(f"{seed}:{number}"))


def _change(content: bytes, name: str, dice: random.Random) -> bytes:
    if name.endswith(".parquet"):
        return change_table(content, dice)
    lines = content.decode().split("\n") if name == ROWS else [content.decode()]
    written = [number for number, line in enumerate(lines) if line.strip()]
    chosen = dice.choice(written[1:] or written)  # the first line of an evaluation says of which it is
    lines[chosen] = change_json(lines[chosen], dice)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def make_reader(command: str, folder: str, name: str) -> Callable[[bytes], str | None]:
    """Make the handler that puts a damaged file in its place and calls a command; afterwards the whole file is back."""
    warnings.simplefilter("ignore")
    own = Path(folder) / f"of {command} {Path(name).name}"
    calls: Mapping[str, Callable[[], str | None]] = {
        "report": lambda: _report(own),
        "batch": lambda: _continue(own),
        "evaluate": lambda: _evaluate(own),
    }
    original = {
        path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and _is_ours(path, folder)
    }

    def read(content: bytes) -> str | None:
        shutil.rmtree(own, ignore_errors=True)
        for path, whole in original.items():
            copy = own / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(whole)
        (own / name).write_bytes(content)
        return calls[command]()

    return read


def _is_ours(path: Path, folder: str) -> bool:
    return path.relative_to(folder).parts[0] in (RUN, ROWS, "photos", "model.onnx")


def _report(folder: Path) -> str | None:
    from explainable_model.report import write_report

    write_report(folder / RUN, folder / PAGE, photos=folder / "photos")
    return find_injection((folder / PAGE).read_text("utf-8"))


def _continue(folder: Path) -> str | None:
    from explainable_model.batch import explain_data_set, open_run

    explain_data_set(folder / "model.onnx", folder / "photos", folder / RUN, processes=0)
    rows = open_run(folder / RUN).read_table(["id"]).num_rows
    return None if rows >= PHOTOS else f"{rows} rows of {PHOTOS} photos"


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag in ("img", "iframe", "object", "embed", "base") or any(name.startswith("on") for name, _ in attrs):
            self.foreign.append(tag)


def find_injection(page: str) -> str | None:
    """What the page holds that the report does not write: a third script, a picture, a handler."""
    found = _Elements()
    found.feed(page)
    return None if found.scripts == 2 and not found.foreign else f"{found.scripts} scripts, {found.foreign}"
