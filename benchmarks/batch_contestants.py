"""The contestants of ``python -m benchmarks batch``: the plain loop, the local engine, and pytorch-grad-cam."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.isolation import Figures

BATCH = 8
HALF = 0.5
CHECKED_PARTS = 50


def write_artifacts(scratch: Path) -> Figures:
    """The plain network, and the explained one with maps of layer resolution and of image size."""
    import torch

    from benchmarks.plain import write_onnx
    from explainable_model import ExplainableModel, export
    from explainable_model.demo import TARGET_LAYER, efficientnet_lite0

    paths = [scratch / name for name in ("plain.onnx", "explained.onnx", "resized.onnx")]
    if all(path.exists() for path in paths):
        return {"paths": paths}
    named = efficientnet_lite0()
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    write_onnx(named.model, image, paths[0])
    known = {"preprocess": named.preprocess, "class_names": named.class_names}
    for path, upsample in zip(paths[1:], ("none", "bilinear"), strict=True):
        export(ExplainableModel(named.model, TARGET_LAYER, upsample=upsample), path, image[:1], **known)
    return {"paths": paths}


def _usage(started: tuple[float, float], photos: int) -> Figures:
    """Photos per second of wall clock and of the processors, and the peak memory of the largest process."""
    import resource

    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in spent) - started[1]
    seconds = time.perf_counter() - started[0]
    return {
        "photos": photos,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "photos_per_second": photos / seconds,
        "photos_per_cpu_second": photos / cpu,
        "peak_megabytes": max(each.ru_maxrss for each in spent) / 1024,
    }


def _start() -> tuple[float, float]:
    import resource

    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(each.ru_utime + each.ru_stime for each in spent)


def run_plain(plain: Path, photos: Path, processes: int) -> Figures:
    """The loop that everybody writes: decode, prepare, run a batch, keep the class; each process has its share."""
    paths = sorted(photos.iterdir())
    started = _start()
    shares = [[str(path) for path in paths[number::processes]] for number in range(processes)]
    program = "import sys; from benchmarks.batch_contestants import loop; loop(sys.argv[1], sys.stdin.read().split())"
    running = [
        subprocess.Popen([sys.executable, "-c", program, plain], stdin=subprocess.PIPE, text=True) for _ in shares
    ]
    for process, share in zip(running, shares, strict=True):
        assert process.stdin is not None
        process.stdin.write("\n".join(share))
        process.stdin.close()
    for process in running:
        if process.wait():
            raise RuntimeError("the plain loop failed")
    return _usage(started, len(paths))


def loop(plain: str, paths: list[str]) -> None:
    """One process of the plain loop."""
    import numpy as np

    from benchmarks.plain import open_onnx
    from explainable_model.imaging.preprocess import Preprocess, open_photo

    prepare = Preprocess((224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)  # as of the demo
    predict, classes = open_onnx(Path(plain), 1), []
    for start in range(0, len(paths), BATCH):
        images = np.concatenate([prepare(open_photo(path)) for path in paths[start : start + BATCH]])
        classes += predict(images).argmax(1).tolist()
    assert len(classes) == len(paths)


def run_batch(artifact: Path, photos: Path, out: Path, processes: int) -> Figures:
    """A whole run, with the listing and the check of its rows."""
    from explainable_model.batch import explain_data_set

    shutil.rmtree(out, ignore_errors=True)
    started = _start()
    found = explain_data_set(artifact, photos, out, processes=processes, threads=1, progress=_MemoryWatch(out))
    figures = _usage(started, found.photos)
    assert found.failed == 0
    stored = sum(part.stat().st_size for part in (out / "rows").iterdir())
    return {**figures, "bytes_per_row": stored / found.photos, "memory": _MemoryWatch.seen[:]}


class _MemoryWatch:
    """Notes the memory of the processes at a quarter of the run and at its end."""

    seen: list[float] = []  # noqa: RUF012  # one run per process

    def __init__(self, out: Path) -> None:
        self._next = 0.25

    def __call__(self, step: str, done: int, total: int) -> None:
        """Note it."""
        if step == "photos" and total > 0 and self._next <= done / total < 1:
            import psutil

            children = psutil.Process().children()
            self.seen.append(max(child.memory_info().rss for child in children) / 2**20)
            self._next += 0.25


def run_peer(photos: Path, count: int) -> Figures:
    """Grad-CAM of pytorch-grad-cam 1.5.7 on the eager network, photos from a DataLoader in the same process."""
    import pytorch_grad_cam
    import torch
    from torch.utils.data import DataLoader

    from explainable_model.demo import PREPROCESS, TARGET_LAYER, efficientnet_lite0
    from explainable_model.imaging.preprocess import open_photo

    paths = sorted(photos.iterdir())[:count]
    torch.set_num_threads(1)
    started = _start()
    model = efficientnet_lite0().model
    cam = pytorch_grad_cam.GradCAM(model, [model.get_submodule(TARGET_LAYER)])
    loader = DataLoader(
        [str(path) for path in paths],
        batch_size=BATCH,
        collate_fn=lambda names: torch.cat([torch.from_numpy(PREPROCESS(open_photo(name))) for name in names]),
    )
    maps = sum(len(cam(images, None)) for images in loader)
    assert maps == count
    return _usage(started, count)


def measure_kill(artifact: Path, photos: Path, scratch: Path, processes: int) -> Figures:
    """Kill the driver halfway, run again, and count the photos that were explained twice."""
    from explainable_model.batch import open_run

    out = scratch / "killed"
    shutil.rmtree(out, ignore_errors=True)
    words = ("batch", artifact, photos, "-o", out, "--processes", processes, "--threads", 1, "--json")
    command = [sys.executable, "-m", "explainable_model", *map(str, words)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    total = len(list(photos.iterdir()))
    while sum(part.num_rows for part in _read_metadata(out)) < HALF * total:
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(2)
    rows = max(part.num_rows for part in _read_metadata(out))
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    ids = open_run(out).read_table(["id"]).column("id").to_pylist()
    assert ids == [str(path) for path in sorted(photos.iterdir())]
    return {
        "photos": total,
        "rows_of_a_part": rows,
        "left_after_the_kill": done["explained"],
        "most_lost": processes * rows,
        "rows": len(ids),
        "distinct": len(set(ids)),
    }


def _read_metadata(out: Path) -> list[Any]:
    import pyarrow.parquet as parquet

    return [parquet.read_metadata(part) for part in (out / "rows").glob("part-*.parquet")]


def measure_listing(scratch: Path, count: int) -> Figures:
    """What the driver does alone: the list of the photos, the same list again, and the check of the rows."""
    import resource

    from explainable_model.batch.check import check_rows
    from explainable_model.batch.manifest import write_manifest
    from explainable_model.batch.photos import Photo
    from explainable_model.batch.run_folder import RunFolder

    folder = scratch / "listed"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "rows").mkdir(parents=True)

    def list_names() -> Iterator[Photo]:
        for number in range(count):
            name = f"photos/{number % 1000:03d}/{number:09d}.jpg"
            yield Photo(name, f"/data/{name}", str(number % 1000), container=f"/data/{name}")

    seconds = []
    for _ in range(2):
        started = time.process_time()
        listed = write_manifest(list_names(), folder, lambda total: 1000, lambda done: None)
        seconds.append(time.process_time() - started)
    rows = _write_rows(folder, min(listed.parts, CHECKED_PARTS))
    started = time.process_time()
    checked = check_rows(RunFolder(folder, {}), listed)
    figures = {
        "photos": count,
        "list_seconds": seconds[0],
        "again_seconds": seconds[1],
        "check_seconds": time.process_time() - started,
        "checked": rows,
        "bytes_per_photo": listed.path.stat().st_size / count,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    assert checked.rows == rows
    shutil.rmtree(folder)
    return figures


def _write_rows(folder: Path, parts: int) -> int:
    """Rows of the first parts, as an engine would have written them."""
    from explainable_model.batch.manifest import open_manifest
    from explainable_model.batch.parts import write_part
    from explainable_model.batch.run_folder import RunFolder
    from explainable_model.batch.schema import make_empty_row

    manifest, written = open_manifest(folder), 0
    assert manifest is not None
    record = dict.fromkeys(("schema_version", "artifact", "options", "class_names", "cam_source"))
    for number in range(parts):
        rows = [
            {**make_empty_row(), "id": photo.id, "sha256": f"{written + place:064x}", "artifact": "", "version": ""}
            for place, photo in enumerate(manifest.read_part(number))
        ]
        write_part(RunFolder(folder, record), number, rows)
        written += len(rows)
    return written
