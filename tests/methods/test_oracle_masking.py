"""Methods that score masked copies, on a whole network, against loops that share no code with the package."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from explainable_model import ExplainableModel
from explainable_model.attribution.noise import gaussian_noise
from explainable_model.errors import LayerError
from explainable_model.methods import METHODS
from explainable_model.model import lower
from tests.methods.oracle import (
    CLASSES,
    GRID,
    LAYER,
    SIZE,
    activations_of,
    assert_equal,
    batch,
    each,
    enlarged,
    output_changed,
    range_scaled,
    raw,
    small,
)
from tests.support.nets import TinyViT, images, seeded


def test_scorecam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            with torch.no_grad():
                scores.append(network(image * mask)[0, class_idx])
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "scorecam", batch()), each(oracle, batch()))


def test_iscam() -> None:
    network, samples = small(), 4

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            total = 0.0
            for i in range(samples + 1):
                masked = sum((j / samples * mask * image for j in range(i)), torch.zeros_like(image))
                with torch.no_grad():
                    total += (network(masked) - network(torch.zeros_like(image)))[0, class_idx]
            scores.append(total / samples)
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "iscam", batch(), samples=samples), each(oracle, batch()))


def test_sscam() -> None:
    network, samples, noise = small(), 3, 0.5

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        draws = gaussian_noise(torch.zeros(1, 1, *SIZE[1:], dtype=torch.float64), samples, seed=6)
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            with torch.no_grad():
                total = sum(network((mask + noise * draw[0]) * image)[0, class_idx] for draw in draws)
            scores.append(torch.as_tensor(total) / samples)
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    found = raw(network, LAYER, "sscam", batch(), samples=samples, noise=noise, seed=6)
    assert_equal(found, each(oracle, batch()))
    assert (found - raw(network, LAYER, "sscam", batch(), samples=samples, noise=noise, seed=7)).abs().max() > 1e-3
    without_noise = raw(network, LAYER, "sscam", batch(), samples=2, noise=0.0)
    assert_equal(without_noise, raw(network, LAYER, "scorecam", batch()))


def test_ablationcam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        cam = torch.zeros(GRID, dtype=torch.float64)
        with torch.no_grad():
            score = network(image)[0, class_idx]
            for k, channel in enumerate(activations):
                kept = torch.ones(len(activations), 1, 1, dtype=torch.float64)
                kept[k] = 0
                with output_changed(network.block, lambda output, kept=kept: output * kept):
                    cam += (score - network(image)[0, class_idx]) / score.abs() * channel
        return cam

    assert_equal(raw(network, LAYER, "ablationcam", batch()), each(oracle, batch()))


@pytest.mark.parametrize("gaussian", [False, True])
def test_reciprocam(gaussian: bool) -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        cam = torch.zeros(GRID, dtype=torch.float64)
        for row, column in product(*map(range, GRID)):
            mask = torch.zeros(GRID, dtype=torch.float64)
            for i, j in product(*map(range, GRID)):
                near = abs(i - row) <= 1 and abs(j - column) <= 1
                if gaussian and near:
                    mask[i, j] = 2.0 ** -(2 + abs(i - row) + abs(j - column))
                elif (i, j) == (row, column):
                    mask[i, j] = 1
            with torch.no_grad(), output_changed(network.block, lambda output, mask=mask: output * mask):
                cam[row, column] = network(image)[0, class_idx]
        return cam - cam.min()

    assert_equal(raw(network, LAYER, "reciprocam", batch(), gaussian=gaussian), each(oracle, batch()))


@pytest.mark.parametrize("gaussian", [False, True])
def test_vitreciprocam(gaussian: bool) -> None:
    network, layer = seeded(TinyViT()).double(), "blocks.1.norm1"
    image = images(2, seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        cam = torch.zeros(4, 4, dtype=torch.float64)
        for row, column in product(range(4), range(4)):
            mask = torch.zeros(17, 1, dtype=torch.float64)
            mask[0] = 1  # the class token stays
            for i, j in product(range(4), range(4)):
                distance = max(abs(i - row), abs(j - column))
                if distance <= (1 if gaussian else 0):
                    mask[1 + 4 * i + j] = 2.0 ** -(2 + abs(i - row) + abs(j - column)) if gaussian else 1.0
            with (
                torch.no_grad(),
                output_changed(network.get_submodule(layer), lambda output, mask=mask: output * mask),
            ):
                cam[row, column] = network(image)[0, class_idx]
        return cam - cam.min()

    assert_equal(raw(network, layer, "vitreciprocam", image, gaussian=gaussian), each(oracle, image))
    with pytest.raises(LayerError, match="'vitreciprocam' needs tokens .*; 'block' has a map. Use 'reciprocam' there"):
        raw(small(), LAYER, "vitreciprocam", batch())


class Masking(nn.Module):
    """What follows the layer depends on it through values without a gradient: a mask, a detached scale, indices."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 4, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, image: Tensor) -> Tensor:
        activations = self.stem(image)
        activations = torch.where(activations > 0.1, activations.square(), 0.3 * activations)
        activations = activations / activations.detach().abs().amax((1, 2, 3), keepdim=True).add(0.1)
        strongest = activations.flatten(2).argmax(2, keepdim=True)
        return self.fc(activations.mean((2, 3)) + activations.flatten(2).flip(2).gather(2, strongest).squeeze(2))


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam"])
def test_masks_behind_the_layer_follow_the_changed_activations(method: str) -> None:
    network = seeded(Masking()).double()

    def score(image: Tensor, class_idx: int, factor: Tensor) -> Tensor:
        with torch.no_grad(), output_changed(network.stem, lambda output: output * factor):
            return network(image)[0, class_idx]

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, "stem", image)[0]
        if method == "reciprocam":
            masks = torch.eye(16, dtype=torch.float64).reshape(16, *GRID)
            cam = torch.stack([score(image, class_idx, mask) for mask in masks]).reshape(GRID)
            return cam - cam.min()
        whole = score(image, class_idx, torch.ones((), dtype=torch.float64))
        kept = 1 - torch.eye(6, dtype=torch.float64).reshape(6, 6, 1, 1)
        weights = torch.stack([whole - score(image, class_idx, mask) for mask in kept]) / whole.abs()
        return (weights[:, None, None] * activations).sum(0)

    found = raw(network, "stem", method, batch())
    assert_equal(found, each(oracle, batch()))
    lowered = lower(
        ExplainableModel(network, "stem", method, normalize=False, upsample=False, signed=True), batch().flip(0)
    )
    assert_equal(lowered(batch(), torch.tensor(CLASSES)).cam, found)


class _Rows(TorchDispatchMode):
    """Counts the images that pass the convolution of three channels, the first of the network, and the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.classifier = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        if "conv" in name and "backward" not in name and args[1].ndim == 4 and args[1].shape[1] == 3:
            self.head += args[0].shape[0]
        elif name in ("aten.addmm", "aten.mm", "aten.linear"):
            self.classifier += args[1 if name == "aten.addmm" else 0].shape[0]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("method", "copies"), [("ablationcam", 10), ("reciprocam", 16), ("scorecam", 10), ("iscam", 30)]
)
def test_what_runs_again(method: str, copies: int) -> None:
    options = {"samples": 4} if method == "iscam" else None
    explainable = ExplainableModel(small(), LAYER, method, chunk_size=3, options=options)
    explainable(batch())  # the first call traces
    network = lower(explainable, images(2, SIZE).double())
    for call in (explainable, network):
        with _Rows() as rows:
            call(batch())
        assert rows.classifier == 2 * (1 + copies)
        assert rows.head == (2 * (1 + copies) if not METHODS[method].needs_graph else 2), "the head runs once"
