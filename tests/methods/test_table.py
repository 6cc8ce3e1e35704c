"""Each CAM method by hand and against an independent replica in float64."""

import doctest
import re

import pytest
import torch

from explainable_model import methods
from explainable_model.methods import find_method, gradcam


def test_gradcam_by_hand() -> None:
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [1.0, 0.0]]]])
    gradients = torch.tensor([[[[1.0, 1.0], [1.0, 5.0]], [[-4.0, 0.0], [0.0, 0.0]]]])
    # Weights: 8 / 4 = 2 and -4 / 4 = -1.
    assert gradcam(activations, gradients).tolist() == [[[2.0, 5.0], [5.0, 8.0]]]


@pytest.mark.parametrize("spatial", [(4,), (3, 5), (2, 3, 4)])
def test_gradcam_replica(spatial: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    activations = torch.randn(3, 4, *spatial, generator=generator, dtype=torch.float64)
    gradients = torch.randn(3, 4, *spatial, generator=generator, dtype=torch.float64)
    expected = torch.zeros(3, *spatial, dtype=torch.float64)
    for n in range(3):
        for k in range(4):
            expected[n] += gradients[n, k].sum() / gradients[n, k].numel() * activations[n, k]
    assert (gradcam(activations, gradients) - expected).abs().max() < 1e-12


def test_docstring_examples() -> None:
    module = __import__("explainable_model.methods.gradcam", fromlist=["gradcam"])
    assert callable(gradcam)
    results = doctest.testmod(module, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0


def test_unknown_method_lists_the_known() -> None:
    with pytest.raises(
        ValueError, match=re.escape(f"Unknown method 'cam9'; known methods: {', '.join(methods.METHODS)}")
    ):
        find_method("cam9")


def test_the_methods_that_give_every_class_the_same_map() -> None:
    same = {name for name, method in methods.METHODS.items() if not method.class_specific}
    assert same == {"eigencam", "fem", "kpcacam", "dff", "rollout"}


def test_the_defaults_are_those_of_the_papers_and_of_the_docs() -> None:
    defaults = {
        "smoothgradcam++": {"samples": 16, "noise": 0.15, "seed": 0},
        "finercam": {"gamma": 0.6, "references": 3},
        "iscam": {"samples": 10},
        "sscam": {"samples": 10, "noise": 2.0, "seed": 0},
        "reciprocam": {"gaussian": False},
        "vitreciprocam": {"gaussian": True},
        "legrad": {"first": 0},
        "dff": {"concepts": 4, "concept": 0, "steps": 50},
        "rollout": {"heads": "mean", "discard": 0.0},
        "smoothgrad": {"samples": 16, "noise": 0.15, "seed": 0},
        "smoothgrad_sq": {"samples": 16, "noise": 0.15, "seed": 0},
        "vargrad": {"samples": 16, "noise": 0.15, "seed": 0},
        "integrated_gradients": {"steps": 32, "baseline": 0.0},
        "expected_gradients": {"samples": 32, "baseline": 0.0, "noise": 0.0, "seed": 0},
        "occlusion": {"window": 0, "stride": 0, "baseline": 0.0},
        "rise": {"samples": 4000, "cells": 7, "keep": 0.5, "seed": 0},
    }
    assert {name: dict(method.options) for name, method in methods.METHODS.items() if method.options} == defaults
