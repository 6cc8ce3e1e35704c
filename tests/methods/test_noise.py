"""The noise of a seed: standard normal, independent, and the same for ever."""

import pytest
import torch

from explainable_model import ExplainableModel
from explainable_model.attribution.noise import gaussian_noise
from tests.support.nets import SmallNet, images, seeded

NOISE = [
    0.6865018606,
    -1.5464360714,
    0.1164778918,
    0.6553498507,
    1.5254858732,
    -0.0297015943,
    0.3578549027,
    -0.2133583874,
]


def test_noise_is_standard_normal_and_independent() -> None:
    noise = gaussian_noise(torch.zeros(1, 3, 64, 64, dtype=torch.float64), 4, 0)
    assert noise.shape == (4, 3, 64, 64)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.15), "the fourth moment of a normal distribution"
    neighbors = (noise[..., 1:] * noise[..., :-1]).mean(), (noise[:, :, 1:] * noise[:, :, :-1]).mean()
    copies = (noise[1:] * noise[:-1]).mean()
    assert all(abs(float(value)) < 0.03 for value in (*neighbors, copies))
    assert len(noise.unique()) > 0.99 * noise.numel()


def test_seeds_give_other_noise_and_the_same_again() -> None:
    image = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    first, again, other = (gaussian_noise(image, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert abs(float((first * other).mean())) < 0.8
    assert not torch.equal(first, other)


def test_an_artifact_of_years_ago_has_the_same_noise() -> None:
    noise = gaussian_noise(torch.zeros(1, 1, 2, 2, dtype=torch.float64), 2, 3).flatten()
    assert noise.tolist() == pytest.approx(NOISE, abs=1e-9)


@pytest.mark.parametrize("method", ["sscam", "smoothgrad"])
def test_the_default_seed_is_zero(method: str) -> None:
    network, image = seeded(SmallNet()), images(1, (3, 16, 16))
    default, zero, one = (
        ExplainableModel(network, None, method, options={"samples": 2, **seed})(image).cam
        for seed in ({}, {"seed": 0}, {"seed": 1})
    )
    assert torch.equal(default, zero)
    assert not torch.equal(default, one)
