"""What is done to a map: normalization, size, several layers, augmentation, several classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, load
from explainable_model.attribution.noise import gaussian_noise
from explainable_model.attribution.plan import arguments_of
from explainable_model.errors import InputError
from explainable_model.methods.fusion import FUSIONS
from tests.support.nets import SmallNet, images, seeded


def network() -> nn.Module:
    return seeded(SmallNet()).double()


def call(image: Tensor, layer: str | Sequence[str] | None = "block", class_idx: Any = None, **options: Any) -> Tensor:
    return ExplainableModel(network(), layer, **options)(image, class_idx).cam  # type: ignore[arg-type]


def pictures() -> Tensor:
    return images(2, (3, 16, 16), seed=3).double()


def raw(layer: str | None = "block", **options: Any) -> Tensor:
    return call(pictures(), layer, normalize=False, upsample=False, signed=True, **options)


def test_a_signed_map_keeps_its_zero_by_default() -> None:
    maps, cam = raw(top_k=3), call(pictures(), signed=True, upsample=False, top_k=3)
    assert maps.min() < 0 < maps.max()
    assert torch.allclose(cam, maps / maps.abs().amax((2, 3), keepdim=True))
    assert torch.equal(cam, call(pictures(), signed=True, upsample=False, normalize=True, top_k=3))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shared_scale", [False, True])
def test_normalization(signed: bool, shared_scale: bool) -> None:
    maps = raw(top_k=3)
    assert maps.shape == (2, 3, 4, 4)
    assert maps.min() < 0 < maps.max()
    for normalize in ("minmax", "max", "none"):
        found = call(pictures(), top_k=3, upsample=False, normalize=normalize, signed=signed, shared_scale=shared_scale)
        for n in range(2):
            for k in range(3):
                cam = maps[n, k] if signed else maps[n, k].clamp(min=0)
                scope = (maps[n] if signed else maps[n].clamp(min=0)) if shared_scale else cam
                if normalize == "minmax":
                    cam = (cam - scope.min()) / (scope.max() - scope.min())
                elif normalize == "max":
                    cam = cam / scope.abs().max()
                assert (found[n, k] - cam).abs().max() < 1e-12


def test_booleans_stand_for_the_usual() -> None:
    assert torch.equal(call(pictures(), normalize=True, upsample=True), call(pictures()))
    assert torch.equal(call(pictures()), call(pictures(), normalize="minmax", upsample="bilinear"))
    assert torch.equal(
        call(pictures(), normalize=False, upsample=False), call(pictures(), normalize="none", upsample="none")
    )


@pytest.mark.parametrize("size", [None, (9, 20)])
def test_upsampling(size: tuple[int, int] | None) -> None:
    small = call(pictures(), upsample=False)
    for upsample, mode in (("bilinear", "bilinear"), ("bicubic", "bicubic"), ("nearest", "nearest-exact")):
        corners = {} if mode == "nearest-exact" else {"align_corners": False}
        plain = functional.interpolate(small[:, None], size or (16, 16), mode=mode, **corners)[:, 0]
        found = call(pictures(), upsample=upsample, size=size)
        assert found.shape == plain.shape
        assert (found - plain.clamp(0, 1)).abs().max() < 1e-12
        if upsample == "bicubic":
            assert plain.min() < 0, "the clamp must count"
            assert (call(pictures(), upsample=upsample, size=size, normalize="max", signed=True).abs() <= 1).all()
        free = {"normalize": "none", "signed": True}  # no range: nothing is clamped
        resized = functional.interpolate(
            call(pictures(), upsample=False, **free)[:, None], size or (16, 16), mode=mode, **corners
        )
        assert (call(pictures(), upsample=upsample, size=size, **free) - resized[:, 0]).abs().max() < 1e-12


# Several layers


@pytest.mark.parametrize("upsample", ["none", "bilinear", "bicubic", "nearest"])
def test_upsampling_inside_guided_gradcam(upsample: str) -> None:
    # Its map has the size of the image: what is resized is the map of the layer, before it is multiplied.
    options = {"method": "guided_gradcam", "normalize": False, "upsample": upsample}
    coarse = raw(method="gradcam").relu().unsqueeze(1)
    mode = {"none": "bilinear", "nearest": "nearest-exact"}.get(upsample, upsample)
    smooth = {} if upsample == "nearest" else {"align_corners": False}
    large = functional.interpolate(coarse, (16, 16), mode=mode, **smooth)[:, 0].clamp(min=0)
    detail = raw(layer=None, method="guided_backprop")
    assert torch.allclose(call(pictures(), **options), large * detail)


def fused_by_hand(maps: list[Tensor], fusion: str) -> Tensor:
    """One image; maps ``(H, W)`` that are not negative."""
    if fusion == "layercam":
        return torch.stack([torch.tanh(2 * cam / cam.max()) for cam in maps]).amax(0)
    scaled = torch.stack([(cam - cam.min()) / (cam.max() - cam.min()) for cam in maps])
    return {"mean": scaled.mean(0), "max": scaled.amax(0), "product": scaled.prod(0)}[fusion]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusion(fusion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ["stem", "block.conv1", "block"]
    maps = []
    for layer in layers:
        cam = raw(layer, method="layercam", top_k=2).clamp(min=0)
        maps.append(functional.interpolate(cam, (8, 8), mode="bilinear", align_corners=False))
    backwards: list[Any] = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: backwards.append(a) or grad(*a, **k))  # type: ignore[func-returns-value]
    found = call(pictures(), layers, method="layercam", top_k=2, fusion=fusion, normalize=False, upsample=False)
    assert len(backwards) == 1, "all layers and classes share one backward pass"
    for n in range(2):
        for k in range(2):
            expected = fused_by_hand([cam[n, k] for cam in maps], fusion)
            assert (found[n, k] - expected).abs().max() < 1e-12


# Augmentation


@pytest.mark.parametrize("top_k", [None, 2])
def test_augmentation(top_k: int | None) -> None:
    plain, augmented = (ExplainableModel(network(), "block", top_k=top_k, augment=augment) for augment in (False, True))
    image = pictures()
    logits, class_idx, cam = augmented(image)
    assert torch.equal(logits, plain(image).logits)
    runs = []
    for factor in (1, 0.9, 1.1):
        runs.append(plain(image * factor, class_idx).cam)  # of the class that the image itself has
        runs.append(plain((image * factor).flip(-1), class_idx).cam.flip(-1))
    assert (cam - torch.stack(runs).mean(0)).abs().max() < 1e-12
    assert (cam - runs[0]).abs().max() > 1e-3


@pytest.mark.parametrize("smooth", [3, (5, 0.3)])
def test_smoothing(smooth: int | tuple[int, float]) -> None:
    copies, noise = smooth if isinstance(smooth, tuple) else (smooth, 0.15)
    settings: dict[str, Any] = {"normalize": False, "signed": True, "upsample": False}
    plain = ExplainableModel(network(), "block", "layercam", **settings)
    smoothed = ExplainableModel(network(), "block", "layercam", smooth=smooth, chunk_size=2, **settings)
    image = pictures()
    logits, class_idx, cam = smoothed(image)
    assert torch.equal(logits, plain(image).logits)
    spread = noise * (image.amax((1, 2, 3), keepdim=True) - image.amin((1, 2, 3), keepdim=True))
    runs = [plain(image + spread * drawn, class_idx).cam for drawn in gaussian_noise(image, copies, 0)]
    assert (cam - torch.stack(runs).mean(0)).abs().max() < 1e-12
    assert (cam - plain(image).cam).abs().max() > 1e-3


def test_saliency_under_noise_is_the_mean_of_saliencies() -> None:
    image = pictures()
    plain, smoothed = (ExplainableModel(network(), None, "saliency", normalize=False, smooth=n) for n in (None, 4))
    _, class_idx, cam = smoothed(image)
    spread = 0.15 * (image.amax((1, 2, 3), keepdim=True) - image.amin((1, 2, 3), keepdim=True))
    runs = [plain(image + spread * drawn, class_idx).cam for drawn in gaussian_noise(image, 4, 0)]
    assert (cam - torch.stack(runs).mean(0)).abs().max() < 1e-12


@pytest.mark.parametrize("smooth", [0, -1, 1.5, "many", (3,), (3, -0.1), (3, float("nan")), (3, True), (0, 0.1)])
def test_smoothing_that_is_refused(smooth: Any) -> None:
    with pytest.raises(ValueError, match="smooth is .*expected a number of noisy copies from 1 on, or"):
        ExplainableModel(network(), "block", smooth=smooth)


def test_an_artifact_smooths(tmp_path: Path) -> None:
    image = pictures().float()
    explainable = ExplainableModel(network().float(), ["stem", "block"], "gradcam", smooth=(3, 0.2), fusion="max")
    session = load(export(explainable, tmp_path / "net.onnx", image))
    assert session.metadata.smooth == [3, 0.2]
    assert arguments_of(session.metadata.to_dict())["smooth"] == [3, 0.2]
    other = image.flip(-1)
    assert np.abs(session(other.numpy()).cam - explainable(other).cam.numpy()).max() < 1e-5


# Several classes


def test_top_k() -> None:
    image = pictures()
    explainable = ExplainableModel(network(), "block", top_k=3)
    logits, class_idx, cam = explainable(image)
    ranks = logits.argsort(1, descending=True)
    assert torch.equal(class_idx, ranks[:, :3])
    assert cam.shape == (2, 3, 16, 16)
    asked = torch.tensor([[-1, 2, -1], [0, -1, 4]])
    mixed = explainable(image, asked)
    assert torch.equal(mixed.class_idx, torch.where(asked == -1, ranks[:, :3], asked))
    for j in range(3):
        assert (mixed.cam[:, j] - call(image, class_idx=mixed.class_idx[:, j])).abs().max() < 1e-12
    every = ExplainableModel(network(), "block", top_k=5)(image)
    assert torch.equal(every.class_idx.sort(1).values, torch.arange(5).expand(2, 5))


def test_top_k_refusals() -> None:
    image = pictures()
    with pytest.raises(ValueError, match="top_k is 0; expected how many classes to explain"):
        ExplainableModel(network(), "block", top_k=0)
    with pytest.raises(InputError, match=r"top_k is 6; the network has 5 class"):
        ExplainableModel(network(), "block", top_k=6)(image)
    explainable = ExplainableModel(network(), "block", top_k=2)
    for wrong, message in (
        (torch.tensor([0, 1]), r"class_idx has shape \(2,\); expected \(2, 2\), 2 classes per image"),
        (torch.tensor([[0, 5], [0, 1]]), r"class_idx 5 is out of range; the network has 5 class"),
        (torch.tensor([[0, 1], [-2, 1]]), r"class_idx -2 is out of range"),
    ):
        with pytest.raises(InputError, match=message):
            explainable(image, wrong)
