"""Make the reports that the tests in this folder open: ``python -m tests.report.browser.make FOLDER``."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from explainable_model.report import write_report
from tests.support.run_folders import Row, blob, make_box, make_box_row, make_row, write_run

NAMES = ("cat", "dog", "<img src=x onerror=alert(1)>")
HOSTILE = "</script><img src=x onerror=alert(1)>=1+1"
PHOTOS = 1000
LEFT_OUT = 15  # by the limit


def draw_photo(path: Path, rng: np.random.Generator) -> Path:
    """A photo of soft spots, which compresses as photos do."""
    small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    soft = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
    grain = np.asarray(soft).astype(np.int16) + rng.integers(-12, 13, (480, 640, 1))
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path


def make_rows(photos: list[Path], seed: int, shift: float) -> list[Row]:
    """A thousand rows, whose third class looks into a corner; a share of ``shift`` has other maps and classes."""
    rng = np.random.default_rng(0)
    change = np.random.default_rng(seed)
    rows = []
    for number in range(PHOTOS):
        class_idx = number % 3
        y, x = (6, 6) if class_idx == 2 else rng.uniform(0, 6, 2)
        label = NAMES[(class_idx + (rng.random() < 0.1)) % 3]
        score = float(rng.uniform(0.3, 1))
        if change.random() < shift:
            y, class_idx = 6 - y, (class_idx + 1) % 3
        name = f"{number:04}{HOSTILE if number == 7 else ''}.jpg"
        photo = photos[number % len(photos)]
        if number % 100 == 50:
            rows.append(make_row(name, error="The photo is truncated.", label=label, photo=photo))
            continue
        cam = blob(y, x, width=0.9) * rng.uniform(0.5, 3)
        row = make_row(name, cam, class_idx=class_idx, score=score, label=label, names=NAMES, photo=photo)
        rows.append({**row, "entropy": float(rng.random())})
    return rows


def make_box_rows(photos: list[Path]) -> list[Row]:
    """A thousand rows of five boxes, of which the second has no map and the third is hot outside; some have none."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(PHOTOS):
        photo, name = photos[number % len(photos)], f"{number:04}{HOSTILE if number == 7 else ''}.jpg"
        boxes = []
        for rank in range(5):
            left, top = rng.uniform(0, 400), rng.uniform(0, 300)
            y, x = (top + 60) / 480 * 16 - 0.5, (left + 80) / 640 * 16 - 0.5
            cam = np.zeros((16, 16)) if rank == 1 else blob(y, x if rank != 2 else 15.5 - x, side=16)
            share = {1: None, 2: 0.2}.get(rank, 0.9)
            score = float(0.95 - 0.1 * rank - rng.uniform(0, 0.1))
            box = make_box([left, top, left + 160, top + 120], cam, rank % 3, score=score, inside=share)
            boxes.append({**box, "name": NAMES[rank % 3]})
        if number % 100 == 50:
            rows.append(make_box_row(name, error="The photo is truncated.", photo=photo))
        else:
            rows.append(make_box_row(name, [] if number % 100 == 51 else boxes, photo=photo, label=NAMES[number % 3]))
    return rows


def make_crowded_rows() -> list[Row]:
    """Photos of a dozen boxes; the eleventh is hot outside and of another class. One photo has a class of its own."""
    rows = []
    for number in range(20):
        boxes = [make_box([rank, rank, rank + 9, rank + 9], score=0.9 - 0.05 * rank) for rank in range(12)]
        boxes[10] = make_box([20, 20, 40, 40], blob(0, 0), 1, score=0.4, inside=0.1)
        boxes[11] = make_box([0, 0, 9, 9], np.zeros((7, 7)), score=0.35, inside=None)
        if number == 19:
            boxes = boxes[:1]
        rows.append(make_box_row(f"{number:02}.jpg", boxes))
    rows[LEFT_OUT] = make_box_row(f"{LEFT_OUT:02}.jpg", [make_box([0, 0, 9, 9], label=2)])
    return rows


def main(folder: Path) -> None:
    """Write three runs, and their reports."""
    rng = np.random.default_rng(0)
    photos = [draw_photo(folder / f"{number}.jpg", rng) for number in range(50)]
    for name, shift in (("run", 0.0), ("other", 0.2)):
        write_run(folder / name, make_rows(photos, 1, shift), class_names=NAMES, artifact=f"{name}.onnx")
    alone = write_report(folder / "run", folder / "alone.html")
    assert alone.size < 8_000_000, alone.size
    write_report(folder / "run", folder / "pair.html", against=folder / "other")
    write_run(folder / "box-run", make_box_rows(photos), class_names=NAMES, artifact="detector.onnx")
    found = write_report(folder / "box-run", folder / "boxes.html")
    assert found.size < 8_000_000, found.size
    write_report(write_run(folder / "crowd-run", make_crowded_rows()), folder / "crowd.html", limit=19)
    bare = [make_row("failed", error="broken"), make_row("zero", np.zeros((7, 7)))]
    write_report(write_run(folder / "bare-run", bare), folder / "bare.html")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
