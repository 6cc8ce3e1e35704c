"""A network that was read from an ONNX file: by every method, and in every format."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from explainable_model import FORMATS, METHODS, ExplainableModel, export, from_onnx, load
from explainable_model.exporters.format import Format
from tests.support.nets import TinyResNet, seeded

NEEDS_TOKENS = [name for name, method in METHODS.items() if method.needs_tokens]


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    path = tmp_path_factory.mktemp("read") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that torch.onnx had before
        torch.onnx.export(
            seeded(TinyResNet(5)),
            (images(2),),
            str(path),
            dynamo=False,
            input_names=["image"],
            dynamic_axes={"image": {0: "n"}},
        )
    return from_onnx(path)


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NEEDS_TOKENS])
def test_every_method_has_the_network_s_own_map(method: str, read: torch.nn.Module) -> None:
    layer = "layer2" if METHODS[method].needs_layer else None
    options = {"samples": 8} if "samples" in METHODS[method].options else {}
    want = ExplainableModel(seeded(TinyResNet(5)), layer, method, options=options)(images(2, 1))
    got = ExplainableModel(read, None, method, options=options)(images(2, 1))
    torch.testing.assert_close(got.logits, want.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got.cam, want.cam, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fmt", FORMATS.values(), ids=FORMATS)
def test_every_format_takes_it(fmt: Format, read: torch.nn.Module, tmp_path: Path) -> None:
    if fmt.name == "litert" and find_spec("litert_torch") is None:
        pytest.skip("litert_torch has an environment of its own")
    explainable = ExplainableModel(read)
    path = export(explainable, tmp_path / f"out{fmt.suffixes[0]}", images(2))
    session = load(path, trusted=True)
    image = images(session.metadata.batch or 3, 1)
    want = explainable(image)
    got = session(image.numpy())
    torch.testing.assert_close(torch.from_numpy(got.cam), want.cam, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(got.logits), want.logits, atol=1e-4, rtol=1e-4)
