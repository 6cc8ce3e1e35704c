"""What holds for every method, and what each option of the wrapper does to a map."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.methods import METHODS
from tests.support.nets import TinyViT, images, seeded

MANY_PASSES = {
    "smoothgradcam++": 3,
    "scorecam": 6,
    "iscam": 12,
    "sscam": 18,
    "ablationcam": 6,
    "reciprocam": 16,
    "smoothgrad": 3,
    "smoothgrad_sq": 3,
    "vargrad": 3,
    "expected_gradients": 3,
    "occlusion": 225,
    "rise": 3,
}
ZERO, NEGATIVE = 3, 4  # classes of ``HardNet``


class HardNet(nn.Module):
    """No biases, so what scales the image scales every activation; class 3 has no weights, class 4 negative ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1, bias=False), nn.ReLU())
        self.fc = nn.Linear(6, 5, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.block(self.stem(image)).mean((2, 3)))
        return logits


def hard_net() -> nn.Module:
    network = seeded(HardNet())
    with torch.no_grad():
        network.fc.weight[ZERO] = 0  # type: ignore[index, operator, union-attr]
        network.fc.weight[NEGATIVE] = -1  # type: ignore[index, operator, union-attr]
    return network


def vit() -> nn.Module:
    network = seeded(TinyViT(classes=5))
    with torch.no_grad():
        for value in (network.head.weight, network.head.bias):
            value[ZERO] = 0  # type: ignore[index, operator]
    return network


def small_options(method: str) -> dict[str, Any]:
    return {name: 3 for name in ("samples", "steps") if name in METHODS[method].options}


def of_method(method: str, **options: Any) -> ExplainableModel:
    transformer = METHODS[method].needs_tokens
    layer = "blocks.1.norm1" if transformer else "block"
    network = vit() if transformer else hard_net()
    return ExplainableModel(network, layer, method, options=small_options(method), **options)


def photos(method: str, batch: int = 2, seed: int = 1) -> Tensor:
    return images(batch, (3, 32, 32) if METHODS[method].needs_tokens else (3, 16, 16), seed=seed)


# Every method


@pytest.mark.parametrize("method", METHODS)
def test_hard_cases(method: str) -> None:
    """Finite and in [0, 1], whatever the image and the class."""
    explainable, image = of_method(method), photos(method)
    cases = {
        "constant": (torch.full_like(image, 0.5), 0),
        "black": (torch.zeros_like(image), 0),
        "zero gradient": (image, ZERO),
        "negative": (image, NEGATIVE),
        "tiny": (image * 1e-12, 0),
        "huge": (image * 1e12, 0),
    }
    if not METHODS[method].needs_layer and not METHODS[method].needs_tokens:
        cases["small"] = (image[:, :, :4, :4], 0)
    for name, (pixels, class_idx) in cases.items():
        cam = explainable(pixels, torch.full((2,), class_idx)).cam
        assert cam.shape == (2, *pixels.shape[2:]), name
        assert torch.isfinite(cam).all(), name
        assert cam.min() >= 0, name
        assert cam.max() <= 1, name


@pytest.mark.parametrize("method", ["gradcam", "gradcam++", "xgradcam", "layercam", "hirescam", "elementwise", "cam"])
def test_nothing_for_a_class_is_a_blank_map(method: str) -> None:
    for class_idx in (ZERO, NEGATIVE):
        assert not of_method(method)(photos(method), torch.tensor([class_idx, class_idx])).cam.any()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.parametrize(
    "method", ["gradcam", "xgradcam", "layercam", "hirescam", "elementwise", "cam", "eigencam", "eigengradcam",
               "ablationcam", "reciprocam", "inputxgradient", "saliency"],
)  # fmt: skip
def test_the_scale_of_activations_does_not_matter(method: str, scale: float) -> None:
    explainable, image, class_idx = of_method(method), photos(method), torch.tensor([0, 1])
    expected = explainable(image, class_idx).cam
    assert (expected.flatten(1).amax(1) > 0.5).any(), "a blank map proves nothing"
    assert (explainable(image * scale, class_idx).cam - expected).abs().max() < 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_images_and_classes_are_independent(method: str) -> None:
    """A batch of two is two batches of one, two classes at once are one after the other, and classes differ."""
    explainable, image = of_method(method), photos(method)
    explainable.model.double()
    image = image.double()
    classes = [torch.tensor([0, 1]), torch.tensor([1, 2])]
    single = torch.stack([explainable(image, class_idx).cam for class_idx in classes], 1)
    alone = torch.cat([explainable(image[n : n + 1], classes[0][n : n + 1]).cam for n in range(2)])
    assert (single[:, 0] - alone).abs().max() < 1e-9
    several = of_method(method, top_k=2, chunk_size=2)
    several.model.double()
    assert (several(image, torch.stack(classes, 1)).cam - single).abs().max() < 1e-9
    apart = (single[:, 0] - single[:, 1]).abs().flatten(1).amax(1)
    assert (apart > 1e-3).all() if METHODS[method].class_specific else (apart < 1e-12).all()


# Chunks and progress


@pytest.mark.parametrize("method", MANY_PASSES)
def test_chunks_change_nothing_and_progress_is_told(method: str) -> None:
    copies, maps = MANY_PASSES[method], []
    for chunk_size in (1, 2, 64):
        told: list[tuple[int, int]] = []
        explainable = of_method(
            method, chunk_size=chunk_size, progress=lambda done, all, told=told: told.append((done, all))
        )
        explainable.model.double()
        maps.append(explainable(photos(method).double()).cam)
        assert told == [(min(done, copies), copies) for done in range(chunk_size, copies + chunk_size, chunk_size)]
    for cam in maps[1:]:
        assert (cam - maps[0]).abs().max() < 1e-9


def test_progress_of_three_parameters_is_told_the_step() -> None:
    told: list[tuple[object, ...]] = []
    explainable = of_method("scorecam", chunk_size=64, progress=lambda *step: told.append(step))
    explainable(photos("scorecam"))
    assert told == [("copies", MANY_PASSES["scorecam"], MANY_PASSES["scorecam"])]


def test_large_images_run_in_smaller_batches_on_a_cpu() -> None:
    network = seeded(nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)))
    told: list[int] = []
    explainable = ExplainableModel(network, "0", "scorecam", progress=lambda done, _: told.append(done))
    explainable(images(1, (3, 256, 512)))  # two of these are as many pixels as are run at once
    assert told == [2, 4, 5]
    told.clear()
    explainable(images(4, (3, 256, 512)))
    assert told == [1, 2, 3, 4, 5]
