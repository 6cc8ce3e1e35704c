"""What the oracles of whole networks share: a small network, and loops, hooks and autograd of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.attribution.noise import gaussian_noise
from tests.support.nets import SmallNet, images, seeded

LAYER = "block"
SIZE = (3, 16, 16)
GRID = (4, 4)
EXACT = 1e-10  # relative to the largest value of the map
CLASSES = (3, 1)


def small() -> SmallNet:
    network = seeded(SmallNet()).double()
    assert isinstance(network, SmallNet)
    return network


def batch() -> Tensor:
    return images(2, SIZE, seed=4).double()


def raw(network: nn.Module, layer: str | None, method: str, image: Tensor, **options: Any) -> Tensor:
    """The package's signed map at its own resolution, of ``CLASSES``."""
    explainable = ExplainableModel(
        network, layer, method, normalize=False, upsample=False, signed=True, chunk_size=3, options=options
    )
    return explainable(image, torch.tensor(CLASSES)).cam


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def each(function: Callable[[Tensor, int], Tensor], image: Tensor) -> Tensor:
    """A map for each image by itself."""
    return torch.stack([function(image[n : n + 1], CLASSES[n]) for n in range(len(image))])


@contextmanager
def output_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def activations_of(network: nn.Module, layer: str, image: Tensor) -> Tensor:
    kept: list[Tensor] = []
    with torch.no_grad(), output_changed(network.get_submodule(layer), lambda out: kept.append(out.clone()) or out):  # type: ignore[func-returns-value]
        network(image)
    return kept[0]


def layer_gradient(network: nn.Module, layer: str, image: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient of a score of the logits by the layer's output, for one image."""
    kept: list[Tensor] = []

    def leaf(output: Tensor) -> Tensor:
        kept.append(output.detach().clone().requires_grad_())
        return kept[0] * 1

    with output_changed(network.get_submodule(layer), leaf):
        logits = network(image)
    (gradient,) = torch.autograd.grad(score(logits[0]), kept[0])
    return gradient[0]


def image_gradient(network: nn.Module, image: Tensor, class_idx: int) -> Tensor:
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[0, class_idx], leaf)
    return gradient[0]


def range_scaled(cam: Tensor) -> Tensor:
    return (cam - cam.min()) / (cam.max() - cam.min()) if cam.max() > cam.min() else torch.zeros_like(cam)


def enlarged(cam: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(cam[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


def noisy(image: Tensor, samples: int, noise: float, seed: int) -> list[Tensor]:
    spread = noise * (image.max() - image.min())
    return [image + spread * sample for sample in gaussian_noise(image, samples, seed)]
