"""A file that Keras and tf2onnx wrote, against what TensorFlow computes: ``tests/data/make_keras.py`` made both."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import explainable_model as xm
from explainable_model.eager.find_layer import default_layer

DATA = Path(__file__).parents[1] / "data"
ANSWER = np.load(DATA / "keras.npz")


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return xm.from_onnx(DATA / "keras.onnx")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """``(N, C, H, W)``, of pixels from 0 to 255: the network scales them itself."""
    return torch.from_numpy(ANSWER["images"].astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def explain(network: torch.nn.Module) -> xm.ExplainableModel:
    return xm.ExplainableModel(network, upsample="none", normalize="none")


def test_the_map_is_that_of_tensorflow(network: torch.nn.Module, images: Tensor) -> None:
    assert network.channels_last
    assert "features16" in default_layer(network, images)
    found = explain(network)(images)
    np.testing.assert_allclose(found.logits, ANSWER["scores"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.cam, ANSWER["cam"], atol=1e-5 * ANSWER["cam"].max())


@pytest.mark.parametrize("suffix", [".onnx", ".ts", ".pt2"])
def test_every_format_takes_it(suffix: str, network: torch.nn.Module, images: Tensor, tmp_path: Path) -> None:
    xm.export(explain(network), path := tmp_path / f"explained{suffix}", images[:1])
    session = xm.load(path)
    assert session.metadata.batch is None
    found = session(images.numpy())
    np.testing.assert_allclose(found.cam, ANSWER["cam"], atol=1e-4 * ANSWER["cam"].max())


def test_photos_of_any_size_go_in(network: torch.nn.Module, images: Tensor, tmp_path: Path) -> None:
    """The preparation of the page: pixels of 0 to 255, as the network scales them itself."""
    preparation = xm.Preprocess((48, 48), mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
    explainable = xm.ExplainableModel(network)
    xm.export(explainable, path := tmp_path / "photos.onnx", images[:1], preprocess=preparation, pixels="NHWC")
    found = xm.load(path)(ANSWER["images"][:1])
    np.testing.assert_allclose(found.logits, ANSWER["scores"][:1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found.cam, explainable(images[:1]).cam, atol=1e-3)
