"""Every row of the table of methods, eagerly, lowered and in every format: the same answer."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explainable_model import ExplainableModel, export, load
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.exporters import FORMATS
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.methods import METHODS
from explainable_model.model import lower
from tests.support.nets import SmallNet, TinyViT, images, seeded

SIZE = (3, 16, 16)
OPTIONS = {"samples": 2, "steps": 3}
SUFFIXES = [fmt.suffixes[0] for fmt in FORMATS.values() if fmt.quick]


def explainable(method: str, dtype: torch.dtype, **options: Any) -> ExplainableModel:
    transformer = METHODS[method].needs_tokens
    network = seeded(TinyViT() if transformer else SmallNet()).to(dtype)
    known = {name: value for name, value in OPTIONS.items() if name in METHODS[method].options}
    layer = "blocks.1.norm1" if transformer else "block"
    # Ten channels in chunks of eight: one whole chunk and a rest.
    return ExplainableModel(network, layer, method, options=known, chunk_size=8, **options)


def size_for(method: str) -> tuple[int, ...]:
    return (3, 32, 32) if METHODS[method].needs_tokens else SIZE


@cache
def single(method: str) -> ExplainableModel:
    return explainable(method, torch.float32)


@cache
def lowered(method: str) -> LoweredModel:
    return lower(single(method), images(2, size_for(method)))


def batches(method: str, dtype: torch.dtype) -> list[Tensor]:
    """Not the example, which is two images of another seed."""
    return [images(batch, size_for(method), seed=batch).to(dtype) for batch in (1, 3)]


@pytest.mark.parametrize("method", METHODS)
def test_lowered_equals_eager(method: str) -> None:
    # Signed: what speaks against a class counts as well, and no map is blank. Several classes run as copies of the
    # tail; one class is what the artifacts below explain.
    top_k = 2
    eager = explainable(method, torch.float64, top_k=top_k, signed=True, normalize="max")
    forward = lower(eager, images(2, size_for(method)).double())
    for image in batches(method, torch.float64):
        shape = (len(image), top_k)
        # One class is asked for by its index, the next is the predicted one, and so on.
        asked = torch.arange(image.shape[0] * top_k).reshape(shape) % 3
        for class_idx in (None, torch.where(asked == 1, -1, asked)):
            expected, found = eager(image, class_idx), forward(image, class_idx)
            assert torch.equal(found.class_idx, expected.class_idx)
            assert (found.logits - expected.logits).abs().max() < TOLERANCES["float64"].logits
            assert found.cam.shape == (*shape, *image.shape[2:])
            assert (found.cam - expected.cam).abs().max() < TOLERANCES["float64"].cam
            assert (expected.cam.abs().flatten(1).amax(1) > 0.1).all(), "a blank map proves nothing"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("method", METHODS)
def test_artifact_equals_eager(method: str, suffix: str, tmp_path: Path) -> None:
    session = load(export(lowered(method), tmp_path / f"artifact{suffix}"))
    assert session.metadata.method == method
    for image in batches(method, torch.float32):
        class_idx = torch.arange(len(image)) - 1
        expected, found = single(method)(image, class_idx), session(image, class_idx.numpy())
        assert np.array_equal(found.class_idx, expected.class_idx.numpy())
        tolerance = TOLERANCES["float32"]
        assert np.abs(found.logits - expected.logits.numpy()).max() < tolerance.logits * expected.logits.abs().max()
        assert np.abs(found.cam - expected.cam.numpy()).max() < tolerance.cam
