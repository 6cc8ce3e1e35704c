"""Networks by name: their weights, their images and their classes, against the libraries' own answers."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import timm.data
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from explainable_model.errors import MissingRuntimeError, ModelError
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.checkpoint import load_checkpoint
from explainable_model.networks.named import (
    NamedModel,
    has_random_weights,
    load_named_model,
    resize_preprocess,
    timm_preprocess,
)
from tests.support import cli_nets
from tests.support.nets import TinyResNet, images, seeded


def smooth_photo() -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((451, 300), Image.Resampling.BICUBIC)


def assert_same_input(preprocess: Preprocess | None, transform: Callable[[Image.Image], Tensor]) -> None:
    """Equal but for the half pixels that resizing to whole pixels moves the photo by."""
    assert preprocess is not None
    got = preprocess(smooth_photo())[0]
    expected = transform(smooth_photo()).numpy()
    assert got.shape == expected.shape
    assert np.abs(got - expected).mean() < 0.01 * expected.std()
    assert np.abs(got - expected).max() < 0.05 * expected.std()


def test_torchvision() -> None:
    named = load_named_model("torchvision:squeezenet1_1")
    weights = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    assert isinstance(named.model, torchvision.models.SqueezeNet)
    assert not named.model.training
    assert named.class_names == tuple(weights.meta["categories"])
    assert named.class_names is not None
    assert named.class_names[285] == "Egyptian cat"
    assert_same_input(named.preprocess, weights.transforms())


def test_torchvision_preprocess_of_the_best_weights() -> None:
    named = load_named_model("torchvision:resnet18", classes=7)
    assert named.model(images(1)).shape == (1, 7)
    assert named.class_names is None, "seven classes are not ImageNet's"
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert named.preprocess == Preprocess(
        size=(224, 224), mean=tuple(transform.mean), std=tuple(transform.std), resize=256, interpolation="bilinear"
    )


def test_torchvision_builds_without_downloading(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    named = load_named_model("torchvision:lraspp_mobilenet_v3_large")  # has a trained backbone by default
    assert named.preprocess is None, "its images have no fixed size"
    assert named.class_names is not None
    assert named.class_names[8] == "cat"


def test_pretrained_weights_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = torchvision.models.squeezenet1_1().state_dict()

    def fetch(self: object, *args: object, **kwargs: object) -> dict[str, Tensor]:
        return trained

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    named = load_named_model("torchvision:squeezenet1_1", pretrained=True)
    assert all(torch.equal(tensor, trained[key]) for key, tensor in named.model.state_dict().items())


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: object, **kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", fetch)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", fetch)
    for name in ("torchvision:squeezenet1_1", "timm:mobilenetv3_small_050"):
        with pytest.raises(ModelError, match=r"could not get its pretrained weights.*not known.*without internet"):
            load_named_model(name, pretrained=True)


def test_timm() -> None:
    named = load_named_model("timm:mobilenetv3_small_050")
    assert not named.model.training
    assert named.class_names is not None
    assert len(named.class_names) == 1000
    assert named.class_names[285] == "Egyptian cat"
    config = timm.data.resolve_model_data_config(named.model)
    assert_same_input(named.preprocess, timm.data.create_transform(**config, is_training=False))
    seven = load_named_model("timm:mobilenetv3_small_050.lamb_in1k", classes=7)
    assert seven.class_names is None
    assert seven.model(images(1, (3, 64, 64))).shape == (1, 7)


@pytest.mark.parametrize("crop", [{"crop_mode": "squash", "crop_pct": 1.0}, {"crop_mode": "center", "crop_pct": 0.9}])
def test_timm_preprocess_equals_its_transform(crop: dict[str, Any]) -> None:
    config = {"input_size": (3, 224, 224), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.25,) * 3, **crop}
    preprocess = timm_preprocess(config)
    assert preprocess is not None
    assert preprocess.resize == (None if crop["crop_mode"] == "squash" else 248)  # floor(224 / 0.9)
    assert_same_input(preprocess, timm.data.create_transform(**config, is_training=False))


def test_timm_preprocess_that_pads_is_unknown() -> None:
    config = timm.data.resolve_model_data_config(timm.create_model("mobilenetv3_small_050"))
    assert timm_preprocess({**config, "crop_mode": "border"}) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet_50", r"torchvision has no 'resnet_50'. Nearest: .*resnet50"),
        ("timm:mobilnetv3_small_050", r"timm has no 'mobilnetv3_small_050'. Nearest: .*mobilenetv3_small_050"),
        ("timm:mobilenetv3_small_050.lamb", r"Nearest: mobilenetv3_small_050.lamb_in1k"),
        ("timm:hf_hub:someone/something", "timm has no"),
        (
            "tests.support.cli_nets:nam",
            r"tests.support.cli_nets has no 'nam'. Did you mean 'named'.*Its functions are: named, other",
        ),
        ("tests.support.cli_nets:zzzzzzzz", "has no .zzzzzzzz.. Its functions are: named"),
        ("tests.nothing:named", r"module tests.nothing, which cannot be imported.*Run in its folder"),
        ("tests.support.cli_nets:broken", r"broken\(\) raised KeyError: 'weights.bin'"),
        ("tests.support.cli_nets:number", r"number\(\) returned int; expected an nn.Module"),
        ("resnet50", "expected torchvision:NAME"),
        ("torchvision:", "expected torchvision:NAME"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_named_model(name)


def test_factories() -> None:
    named = load_named_model("tests.support.cli_nets:named")
    assert named.preprocess == cli_nets.PREPROCESS
    assert named.class_names == cli_nets.CLASS_NAMES
    assert torch.equal(named.model(images(2)), seeded(TinyResNet(5))(images(2)))
    bare = load_named_model("tests.support.cli_nets:bare")
    assert (bare.preprocess, bare.class_names) == (None, None)
    assert torch.equal(bare.model(images(2)), seeded(TinyResNet(3))(images(2)))


def test_what_a_factory_cannot_be_told() -> None:
    for options in ({"pretrained": True}, {"classes": 3}):
        with pytest.raises(ModelError, match="is a factory, which chooses"):
            load_named_model("tests.support.cli_nets:bare", **options)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="one of them"):
        load_named_model("torchvision:resnet18", pretrained=True, classes=3)


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingRuntimeError, match=r"needs timm: pip install"):
        load_named_model("timm:resnet18")


def test_random_weights_are_known_as_such() -> None:
    assert has_random_weights("torchvision:resnet18", None, False)
    assert has_random_weights("timm:resnet18", None, False)
    assert not has_random_weights("timm:resnet18", "resnet18.pth", False)
    assert not has_random_weights("torchvision:resnet18", None, True)
    assert not has_random_weights("tests.support.cli_nets:bare", None, False)


def test_resized_keeps_the_share_of_the_photo() -> None:
    crop = Preprocess(size=(224, 224), resize=256, mean=(0.5,), std=(0.1,))
    assert resize_preprocess(crop, (112, 112)) == replace(crop, size=(112, 112), resize=128)
    assert resize_preprocess(crop, (112, 112)).box(600, 400) == crop.box(600, 400)
    whole = Preprocess(size=(224, 224))
    assert resize_preprocess(whole, (64, 96)) == replace(whole, size=(64, 96))


# Checkpoints


def wrapped(state: dict[str, Tensor], wrapper: str) -> dict[str, Any]:
    return {"epoch": 3, wrapper: state, "optimizer": {"lr": 0.1}}


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module._orig_mod."])
def test_checkpoints_in_wrappers(tmp_path: Path, wrapper: str, prefix: str) -> None:
    trained = seeded(TinyResNet(5), seed=7)
    state = {prefix + key: tensor for key, tensor in trained.state_dict().items()}
    torch.save(wrapped(state, wrapper) if wrapper else state, tmp_path / "trained.pth")
    named = load_named_model("tests.support.cli_nets:named", checkpoint=tmp_path / "trained.pth")
    assert torch.equal(named.model(images(2)), trained(images(2)))


def test_safetensors(tmp_path: Path) -> None:
    trained = seeded(TinyResNet(5), seed=7)
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "trained.safetensors")
    named = load_named_model("tests.support.cli_nets:named", checkpoint=tmp_path / "trained.safetensors")
    assert torch.equal(named.model(images(2)), trained(images(2)))
    (tmp_path / "text.safetensors").write_text("this is not a checkpoint")
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_named_model("tests.support.cli_nets:named", checkpoint=tmp_path / "text.safetensors")


def test_a_prefix_of_the_network_s_own_stays(tmp_path: Path) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Linear(2, 2)

    trained, model = Outer(), Outer()
    torch.save(trained.state_dict(), tmp_path / "outer.pth")
    load_checkpoint(model, tmp_path / "outer.pth")
    assert torch.equal(model.model.weight, trained.model.weight)


def test_checkpoints_without_step_counters_and_in_half_precision(tmp_path: Path) -> None:
    trained = seeded(TinyResNet(5), seed=7).half()
    state = {key: tensor for key, tensor in trained.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pth")
    named = load_named_model("tests.support.cli_nets:named", checkpoint=tmp_path / "old.pth")
    assert torch.equal(named.model(images(2)), trained.float()(images(2)))


def test_another_network_s_checkpoint(tmp_path: Path) -> None:
    state = TinyResNet(4).state_dict()
    state["head.weight"] = torch.ones(2)
    del state["stem.0.weight"]
    torch.save(state, tmp_path / "four.pth")
    model = seeded(TinyResNet(5))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as raised:
        load_checkpoint(model, tmp_path / "four.pth")
    message = str(raised.value)
    assert "missing stem.0.weight;" in message
    assert "unexpected head.weight;" in message
    assert "mis-shaped fc.weight (4, 16), expected (5, 16), fc.bias (4,), expected (5,)." in message
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items()), "left as it was"
    torch.save(TinyResNet(5).layer1.state_dict(), tmp_path / "part.pth")
    with pytest.raises(ModelError, match=r"missing stem.0.weight, stem.1.weight, stem.1.bias, and \d+ more"):
        load_checkpoint(model, tmp_path / "part.pth")


class Malicious:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


def test_files_that_are_not_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": torch.ones(1), "other": Malicious()}, tmp_path / "code.pth")
    torch.save(TinyResNet(5), tmp_path / "whole.pth")
    (tmp_path / "text.pth").write_text("this is not a checkpoint")
    (tmp_path / "empty.pth").write_bytes(b"")
    for name in ("code.pth", "whole.pth"):
        with pytest.raises(ModelError, match=f"{name} holds objects besides tensors, such as "):
            load_checkpoint(TinyResNet(5), tmp_path / name)
    for name in ("text.pth", "empty.pth"):
        with pytest.raises(ModelError, match=f"{name} cannot be read as tensors alone"):
            load_checkpoint(TinyResNet(5), tmp_path / name)
    assert "unpickled" not in capsys.readouterr().out
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "log.pth")
    with pytest.raises(ModelError, match=r"holds the keys epoch, loss; expected a state dict"):
        load_checkpoint(TinyResNet(5), tmp_path / "log.pth")
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    with pytest.raises(ModelError, match="holds a Tensor; expected a state dict"):
        load_checkpoint(TinyResNet(5), tmp_path / "tensor.pth")
    with pytest.raises(ModelError, match="There is no checkpoint"):
        load_checkpoint(TinyResNet(5), tmp_path / "missing.pth")


def test_named_model_is_frozen() -> None:
    with pytest.raises(AttributeError):
        NamedModel(TinyResNet()).preprocess = None  # type: ignore[misc]
