"""Damaged artifacts of each format: each is refused with words, or answers as the whole one does."""

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explainable_model import ExplainableModel, Preprocess, export, load, read_metadata
from tests.siege.cells import run_in_cells
from tests.siege.mutate import damaged
from tests.support.detectors import photos, tiny_ssd
from tests.support.nets import TinyResNet, seeded

ENDINGS = (".onnx", ".xml", ".ts", ".pt2")  # machine code (.aoti.pt2, .pte) is opened with trust alone
BOXES = (".onnx", ".ts", ".pt2")  # of a detector
MEMORY_MIB = 300.0
HEAD = 4096  # bytes at the end of a file, where archives and ONNX keep names and records


def run(folder: Path, count: int, seed: int = 0, boxes: Sequence[str] = BOXES) -> dict[str, Any]:
    """Damage an artifact of each format ``count`` times: of a classifier, and of a detector in some."""
    made = {ending: (make_artifact(folder / f"whole{ending}"), make_image()) for ending in ENDINGS}
    made |= {f"boxes{ending}": (make_detector(folder / f"boxes{ending}"), photos(1).numpy()) for ending in boxes}
    return {name: siege(whole, image, count, seed) for name, (whole, image) in made.items()}


def siege(whole: Path, image: np.ndarray[Any, Any], count: int, seed: int) -> dict[str, Any]:
    """Damage one artifact."""
    folder, ending = whole.parent, whole.suffix
    answer = find_arrays(load(whole)(image))
    tally = run_in_cells(
        make_opener,
        (str(folder / f"damaged{ending}"), image, answer),
        _damage(whole, count, seed),
        memory_mib=MEMORY_MIB,
    )
    return tally.to_record()


def make_artifact(path: Path) -> Path:
    """Export a small network."""
    explainable = ExplainableModel(seeded(TinyResNet(5)), "layer2")
    image = torch.from_numpy(make_image())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(explainable, path, image, preprocess=Preprocess(32), class_names=list("abcde"))


def make_detector(path: Path) -> Path:
    """Export a small detector."""
    explainable = ExplainableModel(tiny_ssd(), task="detection", top_k=2, method="hirescam")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(explainable, path, photos(1), class_names=["cat", "dog"])


def make_image() -> np.ndarray[Any, Any]:
    """One image of noise."""
    return np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)


def find_arrays(answer: Any) -> list[np.ndarray[Any, Any]]:
    """The arrays of an answer; a detector's boxes are a tuple of their own."""
    return [a for part in answer for a in (find_arrays(part) if isinstance(part, tuple) else [np.asarray(part)])]


def _damage(whole: Path, count: int, seed: int) -> Iterator[tuple[str, tuple[bytes, bytes | None]]]:
    """Damage the file anywhere, its end, its record; of two files, either."""
    data = whole.read_bytes()
    weights = whole.with_suffix(".bin") if whole.suffix == ".xml" else None
    second = weights.read_bytes() if weights is not None else None
    half = count // 2
    for name, changed in damaged(data, count - half, seed):
        yield f"{whole.suffix} {name}", (changed, second)
    if second is not None:
        for name, changed in damaged(second, half, seed + 1):
            yield f"{whole.suffix} weights {name}", (data, changed)
    else:
        for name, changed in damaged(data, half, seed + 1, (max(len(data) - HEAD, 0), len(data))):
            yield f"{whole.suffix} end {name}", (changed, None)


def make_opener(path: str, image: Any, answer: list[Any]) -> Callable[[tuple[bytes, bytes | None]], str | None]:
    """Make the handler that writes a damaged artifact and opens it as a careful user does: with its checksum."""
    target = Path(path)

    def open_damaged(files: tuple[bytes, bytes | None]) -> str | None:
        target.write_bytes(files[0])
        if files[1] is not None:
            target.with_suffix(".bin").write_bytes(files[1])
        read_metadata(target)
        session = load(target)
        json.dumps(session.metadata.class_names)
        found = find_arrays(session(image))
        if all(np.allclose(one, other, atol=1e-4, equal_nan=True) for one, other in zip(found, answer, strict=True)):
            return None
        load(target, check=True)
        return "another answer, and the checksum is right"

    return open_damaged
