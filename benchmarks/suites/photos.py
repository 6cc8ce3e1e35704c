"""Compare preparation and overlay in the graph with the same on the host, with Pillow and NumPy."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.isolation import Figures, run_isolated
from benchmarks.plain import Array
from benchmarks.results import Row
from benchmarks.subjects import Subject
from benchmarks.suites.suite import Settings, Suite, Task
from benchmarks.timing import Effort, measure_pairs, time_on_host

PHOTO_MODELS = ("tf_efficientnet_lite0", "mobilenet_v3_large")
PHOTOS = ((640, 480), (1600, 1200))  # width and height
CROPPED = 256 / 224  # the shorter side before the crop, over the crop, in torchvision's presets
PREPARATIONS: Mapping[str, Mapping[str, Any]] = {
    "whole, bilinear": {"interpolation": "bilinear"},
    "cropped, bilinear": {"interpolation": "bilinear", "crop": True},
    "cropped, bicubic": {"interpolation": "bicubic", "crop": True},
}


def list_tasks(settings: Settings) -> list[Task]:
    """One row for each network, preparation and size of photo."""
    photos = PHOTOS[:1] if settings.quick else PHOTOS
    return [
        Task(
            f"{model}/{preparation}/{width}x{height}",
            partial(_measure, Subject(model, size=settings.size), preparation, (width, height), settings),
        )
        for model in settings.choose_models(PHOTO_MODELS)
        for preparation in PREPARATIONS
        for width, height in photos
    ]


def _measure(subject: Subject, preparation: str, photo: tuple[int, int], settings: Settings) -> Row:
    figures = run_isolated(
        measure_photo, subject, preparation, photo, settings.choose_effort(), settings.threads, threads=settings.threads
    )
    about = {"model": subject.model, "preparation": preparation, "photo": list(photo)}
    return {**about, "runtime": "onnx", "threads": settings.threads, **figures}


def measure_photo(subject: Subject, preparation: str, photo: tuple[int, int], effort: Effort, threads: int) -> Figures:
    """Time decoded pixels to prediction and overlay both ways in turn, and the network with its map alone."""
    import tempfile

    import torch
    from PIL import Image

    from explainable_model import export, load
    from explainable_model.imaging.overlay import overlay
    from explainable_model.imaging.preprocess import Preprocess

    torch.set_num_threads(threads)
    how = PREPARATIONS[preparation]
    resize = round(subject.size * CROPPED) if how.get("crop") else None
    preprocess = Preprocess((subject.size, subject.size), resize=resize, interpolation=how["interpolation"])
    explainable = subject.explainable()
    example = torch.from_numpy(subject.make_images(1))
    with tempfile.TemporaryDirectory() as folder:
        bare = load(export(explainable, f"{folder}/bare.onnx", example), threads=threads)
        whole = load(
            export(
                explainable, f"{folder}/whole.onnx", example, preprocess=preprocess, pixels="NHWC", render="overlay"
            ),
            threads=threads,
        )
    pixels = _make_photo(*photo)
    decoded, image = Image.fromarray(pixels), np.zeros((1, 3, subject.size, subject.size), np.float32)

    def run_on_host() -> tuple[Array, Array, Array]:
        answer = bare(preprocess(decoded))
        drawn = overlay(decoded, answer.cam[0], box=preprocess.box(*decoded.size))
        return answer.logits, answer.cam, np.asarray(drawn)

    def run_in_graph() -> Any:
        return whole(np.asarray(decoded)[None])

    ours, (logits, _, drawn) = run_in_graph(), run_on_host()
    levels = np.abs(ours.overlay[0].astype(int) - drawn.astype(int))
    measured = measure_pairs(run_on_host, run_in_graph, effort)
    alone = [time_on_host(lambda: bare(image)).cpu for _ in range(max(measured["pairs"], 3))]
    return {
        "host_against_graph": measured,
        "network_cpu_ms": float(np.median(alone)),
        "difference": {
            "logits": float(np.abs(ours.logits - logits).max() / np.abs(logits).max()),
            "overlay_levels_mean": float(levels.mean()),
            "overlay_levels_p99": float(np.quantile(levels, 0.99)),
        },
    }


def _make_photo(width: int, height: int) -> Array:
    """Decoded pixels ``(height, width, 3)``: enlarged coarse noise, the same in every process."""
    from PIL import Image

    coarse = np.random.default_rng(7).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def to_markdown(rows: dict[str, Row]) -> str:
    """Write the times of both ways, and of the network with its map alone."""
    head = ["network", "photo", "preparation", "graph / host", "host ms", "graph ms", "network and map alone ms",
            "logits", "overlay, levels"]  # fmt: skip
    lines = []
    for row in tables.select_measured(rows).values():
        measured, difference = row["host_against_graph"], row["difference"]
        lines.append(
            [row["model"], "x".join(map(str, row["photo"])), row["preparation"], tables.format_ratio(measured),
             tables.format_milliseconds(measured, "plain"), tables.format_milliseconds(measured, "explained"),
             f"{row['network_cpu_ms']:.3g}", tables.format_scientific(difference["logits"]),
             f"{difference['overlay_levels_mean']:.2f}"]
        )  # fmt: skip
    return tables.make_table(head, lines) + tables.list_failed(rows)


SUITE = Suite(
    "What do preparation and overlay cost in the graph, over the same with Pillow and NumPy?", list_tasks, to_markdown
)
