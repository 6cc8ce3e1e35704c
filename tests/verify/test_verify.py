"""The comparison itself: it must notice what is wrong and forgive what is rounding."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, LoweredModel, Metadata, export, lower
from explainable_model.artifact.reference import check_reference, reference_arrays
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import VerificationError
from explainable_model.exporters.describe import describe
from explainable_model.exporters.torch_runner import torch_runner
from explainable_model.verify.parity import check_parity
from explainable_model.verify.samples import fresh_images
from tests.support import shared
from tests.support.nets import TinyResNet, images, seeded


@pytest.fixture(scope="module")
def made() -> tuple[ExplainableModel, LoweredModel, Metadata]:
    lowered = shared.lowered(TinyResNet, "layer1")
    return shared.explained(TinyResNet, "layer1"), lowered, describe(lowered, "torchscript", None, None)


def altered(lowered: LoweredModel, change: Callable[..., tuple[Any, Any, Any]]) -> Any:
    inner = torch_runner(lowered.graph_module, None)
    return lambda image, class_idx: change(*inner(image, class_idx))


WRONG: dict[str, tuple[Callable[..., tuple[Any, Any, Any]], str]] = {
    "logits": (lambda logits, idx, cam: (logits + 1e-2, idx, cam), "logits differ"),
    "flipped": (lambda logits, idx, cam: (logits, idx, cam[:, ::-1]), "the map differs"),
    "zero": (lambda logits, idx, cam: (logits, idx, cam * 0), "the map differs"),
    "nan": (lambda logits, idx, cam: (logits, idx, cam * np.nan), "cam is not finite"),
    "shape": (lambda logits, idx, cam: (logits, idx, cam[:, :4]), "cam has shape"),
    "class": (lambda logits, idx, cam: (logits, (idx + 1) % 5, cam), "class"),
    "neighbour": (lambda logits, idx, cam: (logits, idx, np.roll(cam, 1, 0)), "the map differs"),
    "slightly": (lambda logits, idx, cam: (logits, idx, cam * 0.99), "the map differs"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_notices(made: tuple[ExplainableModel, LoweredModel, Metadata], name: str) -> None:
    change, message = WRONG[name]
    parity = check_parity(*made, altered(made[1], change))
    assert not parity.passed
    assert message in parity.reason


def test_notices_a_predicted_class_that_is_always_the_same(
    made: tuple[ExplainableModel, LoweredModel, Metadata],
) -> None:
    inner = torch_runner(made[1].graph_module, None)

    def always_three(image: Any, class_idx: Any) -> Any:
        return inner(image, np.where(class_idx < 0, 3, class_idx))

    parity = check_parity(*made, always_three)
    assert not parity.passed
    assert parity.classes < 1


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_raw_maps_are_compared_in_their_own_units(scale: float) -> None:
    network = seeded(TinyResNet())
    with torch.no_grad():
        network.fc.weight.mul_(scale)
        network.fc.bias.mul_(scale)
    explainable = ExplainableModel(network, "layer1", normalize=False)
    lowered = lower(explainable, images(1))
    metadata = describe(lowered, "torchscript", None, None)
    assert check_parity(explainable, lowered, metadata, altered(lowered, lambda *right: right)).passed
    parity = check_parity(explainable, lowered, metadata, altered(lowered, WRONG["slightly"][0]))
    assert not parity.passed


def test_one_map_that_is_zero_is_noticed(made: tuple[ExplainableModel, LoweredModel, Metadata]) -> None:
    def first_is_zero(logits: Any, idx: Any, cam: Any) -> Any:
        cam = cam.copy()
        cam[0] = 0
        return logits, idx, cam

    parity = check_parity(*made, altered(made[1], first_is_zero))
    assert not parity.passed
    assert "correlation 0.0000" in parity.reason


def test_another_class_is_asked_for_where_the_map_is_zero() -> None:
    network = seeded(TinyResNet())
    with torch.no_grad():  # class 0 wins everywhere, with a map that is negative everywhere
        network.fc.weight[0] = -network.fc.weight[1:].abs().amax(0)
        network.fc.bias[0] = 100.0
    explainable = ExplainableModel(network, "layer2")
    assert explainable(fresh_images(images(1), 7, 0)).cam.max() == 0
    lowered = lower(explainable, images(1))
    metadata = describe(lowered, "torchscript", None, None)
    assert check_parity(explainable, lowered, metadata, altered(lowered, lambda *right: right)).passed
    parity = check_parity(explainable, lowered, metadata, altered(lowered, WRONG["zero"][0]))
    assert not parity.passed


def test_forgives_rounding_and_a_few_flipped_pixels(made: tuple[ExplainableModel, LoweredModel, Metadata]) -> None:
    def rounding(logits: Any, idx: Any, cam: Any) -> Any:
        return logits * (1 + 1e-6), idx, cam + 1e-6

    def flipped(logits: Any, idx: Any, cam: Any) -> Any:
        cam = cam.copy()
        cam[:1, 0, 0] += 1e-2  # the first image of each batch
        return logits, idx, cam

    for change, count in ((rounding, 0), (flipped, 3)):
        parity = check_parity(*made, altered(made[1], change))
        assert parity.passed, parity.reason
        assert (parity.images, parity.batches, parity.flipped) == (10, [1, 2, 7], count)


class Threshold(nn.Module):
    """Sees nothing but what is brighter than a threshold, and speaks against every class there, or for it."""

    def __init__(self, threshold: float, weight: float) -> None:
        super().__init__()
        self.bright, self.relu, self.head = nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Linear(1, 2, bias=False)
        nn.init.ones_(self.bright.weight)
        nn.init.constant_(self.bright.bias, -threshold)
        nn.init.constant_(self.head.weight, weight)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.relu(self.bright(image)).mean((2, 3)))


def test_a_file_whose_maps_are_all_zero_is_not_verified(tmp_path: Path) -> None:
    spot = torch.zeros(1, 1, 8, 8)
    spot[..., 2, 3] = 100.0
    with pytest.raises(VerificationError, match=r"was not verified: every map of the network is zero.*signed=True"):
        export(ExplainableModel(Threshold(95.0, -1.0).eval(), "relu"), tmp_path / "net.ts", spot)
    assert list(tmp_path.iterdir()) == []
    explainable = ExplainableModel(Threshold(95.0, 1.0).eval(), "relu")
    assert explainable(fresh_images(spot, 7, 0)).cam.max() == 0, "only the example has a map"
    assert export(explainable, tmp_path / "net.ts", spot).exists()


class Cancelling(nn.Module):
    """Adds a large number and takes it away again, which leaves rounding that the image does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)
        seeded(self)
        with torch.no_grad():
            self.up.bias.add_(2e4)
            self.down.bias.sub_(self.down.weight.sum((1, 2, 3)) * 2e4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.down(self.up(image)).mean((2, 3)))


def test_the_rounding_of_the_network_itself_is_allowed() -> None:
    network = Cancelling().eval()
    explainable = ExplainableModel(network, "down")
    exact = ExplainableModel(Cancelling().eval().double(), "down")
    lowered = lower(explainable, images(1))
    metadata = describe(lowered, "torchscript", None, None)

    def in_float64(image: Any, class_idx: Any, *, error: float = 0.0) -> Any:
        answer = exact(torch.from_numpy(image).double(), torch.from_numpy(class_idx))
        cam = answer.cam.float().numpy()
        return answer.logits.float().numpy(), answer.class_idx.numpy(), cam * (1 - error)

    before = {name: weight.clone() for name, weight in network.named_parameters()}
    parity = check_parity(explainable, lowered, metadata, in_float64)
    assert parity.passed, parity.reason
    assert parity.cam > TOLERANCES["float32"].cam
    assert all(torch.equal(weight, before[name]) for name, weight in network.named_parameters())
    parity = check_parity(explainable, lowered, metadata, partial(in_float64, error=0.2))
    assert not parity.passed
    assert "the map differs" in parity.reason


def test_fresh_images_are_fresh() -> None:
    example = images(2)
    made = fresh_images(example, 5, seed=3)
    assert made.shape == (5, 3, 32, 32)
    assert len({tuple(image.flatten()[:4].tolist()) for image in made}) == 5
    assert (made[:2] - example).abs().mean() > 0.1
    assert torch.isfinite(fresh_images(torch.zeros(1, 3, 8, 8), 2, 0)).all()
    assert fresh_images(torch.zeros(1, 3, 8, 8), 2, 0).std() > 0.5


def test_reference_answer(made: tuple[ExplainableModel, LoweredModel, Metadata]) -> None:
    explainable, lowered, metadata = made
    image = reference_arrays(metadata)[0]
    assert image.shape == (2, 3, 32, 32)
    assert image.ravel()[5] == pytest.approx(np.sin(5.0))
    assert image[1].ravel()[5] == pytest.approx(np.sin(6.0))
    want = explainable(torch.from_numpy(image))
    reference = metadata.reference
    assert reference is not None
    assert reference.class_idx == want.class_idx.tolist()
    cells = want.cam.reshape(2, 8, 4, 8, 4).mean((2, 4)).flatten(1)
    assert np.abs(np.asarray(reference.cam) - cells.numpy()).max() < 1e-5
    assert check_reference(metadata, torch_runner(lowered.graph_module, None)) == ""
    for name in ("logits", "flipped", "zero", "nan", "slightly"):
        assert check_reference(metadata, altered(lowered, WRONG[name][0])) != ""
    assert "no recorded answer" in check_reference(replace(metadata, reference=None), lambda image, class_idx: [])
