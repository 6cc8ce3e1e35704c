"""Methods at the image, on a whole network, against hooks and plain autograd that share no code with the package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load
from explainable_model.attribution.noise import uniform_numbers
from explainable_model.attribution.plan import arguments_of
from explainable_model.errors import InputError
from tests.methods.oracle import (
    CLASSES,
    LAYER,
    SIZE,
    activations_of,
    assert_equal,
    batch,
    each,
    enlarged,
    image_gradient,
    layer_gradient,
    noisy,
    raw,
    small,
)
from tests.support.nets import SmallNet, images, seeded


def test_saliency_and_inputxgradient() -> None:
    network, image = small(), batch()
    gradients = each(lambda one, c: image_gradient(network, one, c), image)
    assert_equal(raw(network, None, "saliency", image), gradients.abs().max(1).values)
    assert_equal(raw(network, None, "inputxgradient", image), (image * gradients).sum(1))


def test_smoothgrad() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        copies = noisy(image, 5, 0.2, seed=7)
        return (sum(image_gradient(network, copy, class_idx) for copy in copies) / 5).abs().max(0).values  # type: ignore[union-attr]

    found = raw(network, None, "smoothgrad", batch(), samples=5, noise=0.2, seed=7)
    assert_equal(found, each(oracle, batch()))
    assert (found - raw(network, None, "smoothgrad", batch(), samples=5, noise=0.2, seed=8)).abs().max() > 1e-3


def test_smoothgrad_sq_and_vargrad() -> None:
    network = small()

    def gradients(image: Tensor, class_idx: int) -> Tensor:
        return torch.stack([image_gradient(network, copy, class_idx) for copy in noisy(image, 5, 0.2, seed=7)])

    options = {"samples": 5, "noise": 0.2, "seed": 7}
    squared = each(lambda image, c: (gradients(image, c) ** 2).mean(0).max(0).values, batch())
    assert_equal(raw(network, None, "smoothgrad_sq", batch(), **options), squared)
    spread = each(lambda image, c: gradients(image, c).var(0, unbiased=False).max(0).values, batch())
    assert_equal(raw(network, None, "vargrad", batch(), **options), spread)


def test_expected_gradients() -> None:
    network, samples, starts = small(), 7, images(3, SIZE, seed=9).double()
    points = uniform_numbers(batch(), 1, samples, 5).flatten().double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        total = torch.zeros(SIZE, dtype=torch.float64)
        for sample, end in enumerate(noisy(image, samples, 0.1, seed=5)):
            start = starts[sample % 3 :][:1]
            gradient = image_gradient(network, start + points[sample] * (end - start), class_idx)
            total += (end - start)[0] * gradient / samples
        return total.sum(0)

    options = {"samples": samples, "noise": 0.1, "seed": 5}
    assert_equal(raw(network, None, "expected_gradients", batch(), baseline=starts, **options), each(oracle, batch()))
    # With many points it adds up to the score less the mean score of the baselines.
    many = raw(network, None, "expected_gradients", batch(), baseline=starts, samples=3000).sum((1, 2))
    with torch.no_grad():
        scores = network(batch())[[0, 1], list(CLASSES)] - network(starts).mean(0)[list(CLASSES)]
    assert (many - scores).abs().max() < 0.02 * scores.abs().max()


def test_integrated_gradients_from_an_image() -> None:
    network, start = small(), images(1, SIZE, seed=8).double()
    shifted = nn.Sequential(network).eval()
    shifted.register_forward_pre_hook(lambda module, inputs: inputs[0] + start)
    found = raw(network, None, "integrated_gradients", batch() + start, baseline=start[0])
    assert_equal(found, raw(shifted, None, "integrated_gradients", batch()))


def test_integrated_gradients() -> None:
    network, steps, baseline = small(), 5, 0.25

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        total = torch.zeros(SIZE, dtype=torch.float64)
        for step in range(steps):
            total += image_gradient(network, baseline + (step + 0.5) / steps * (image - baseline), class_idx)
        return ((image[0] - baseline) * total / steps).sum(0)

    found = raw(network, None, "integrated_gradients", batch(), steps=steps, baseline=baseline)
    assert_equal(found, each(oracle, batch()))
    # With many steps it adds up to the difference of the scores.
    many = raw(network, None, "integrated_gradients", batch(), steps=400).sum((1, 2))
    with torch.no_grad():
        scores = network(batch())[[0, 1], list(CLASSES)] - network(torch.zeros(1, *SIZE).double())[0, list(CLASSES)]
    assert (many - scores).abs().max() < 1e-3


class _GuidedReLU(nn.Module):
    """ReLU whose gradient is rectified by a backward hook on its output."""

    def forward(self, tensor: Tensor) -> Tensor:
        output = tensor.clamp(min=0) * 1
        output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output


def guided_copy() -> SmallNet:
    network = small()
    network.stem[2], network.block.relu = _GuidedReLU(), _GuidedReLU()
    return network


def test_guided_backprop() -> None:
    oracle = each(lambda image, c: image_gradient(guided_copy(), image, c).abs().max(0).values, batch())
    assert_equal(raw(small(), None, "guided_backprop", batch()), oracle)
    plain = raw(small(), None, "saliency", batch())
    assert (plain - oracle).abs().max() > 0.1 * oracle.max(), "the network has negative gradients at its ReLUs"


def test_guided_gradcam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        gradients = layer_gradient(network, LAYER, image, lambda logits: logits[class_idx])
        cam = (gradients.mean((1, 2))[:, None, None] * activations).sum(0).clamp(min=0)
        return enlarged(cam, SIZE[1:]) * image_gradient(guided_copy(), image, class_idx).abs().max(0).values

    assert_equal(raw(network, LAYER, "guided_gradcam", batch()), each(oracle, batch()))


def test_an_artifact_holds_the_images_of_its_baseline(tmp_path: Path) -> None:
    network, start = seeded(SmallNet()), images(2, SIZE, seed=8)
    options = {"samples": 3, "baseline": start}
    explainable = ExplainableModel(network, None, "expected_gradients", options=options)
    session = load(export(explainable, tmp_path / "artifact.ts", images(2, SIZE)))
    image = images(3, SIZE, seed=5)
    assert np.abs(session(image.numpy()).cam - explainable(image).cam.numpy()).max() < 1e-4
    assert session.metadata.options["baseline"] == "images (2, 3, 16, 16)"
    with pytest.raises(ValueError, match=r"options that are images, .*which it does not hold"):
        arguments_of({**vars(session.metadata), "target": "ClassScore()"})


def test_a_baseline_of_another_size_is_refused() -> None:
    explainable = ExplainableModel(small(), None, "integrated_gradients", options={"baseline": torch.zeros(3, 8, 8)})
    with pytest.raises(InputError, match=r"baseline has shape \(3, 8, 8\), and the image is \(3, 16, 16\)"):
        explainable(batch())
