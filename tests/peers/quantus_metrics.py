"""Quantus' own metrics on maps of ``explain_func``; run by hand, since Quantus is no dependency, not even of the tests:

``pip install --no-deps quantus cachetools && pytest -m '' tests/peers/quantus_metrics.py``
"""

import numpy as np
import pytest
import quantus
import torch

from explainable_model.evaluation import explain_func
from explainable_model.evaluation.stability import sparseness
from tests.support.nets import SmallNet, images, seeded

PHOTOS = images(4, (3, 16, 16)).numpy()
CLASSES = np.array([0, 1, 2, 3])
WITH = {"target_layer": "block", "method": "layercam"}
QUIET = {"disable_warnings": True}


def network() -> torch.nn.Module:
    return seeded(SmallNet())


def test_sparseness_is_the_measure_of_this_library() -> None:
    metric = quantus.Sparseness(abs=True, normalise=False, **QUIET)
    values = metric(network(), PHOTOS, CLASSES, explain_func=explain_func, explain_func_kwargs=WITH)
    maps = explain_func(network(), PHOTOS, CLASSES, **WITH)[:, 0]
    ours = [sparseness(cam) for cam in maps]
    assert np.isfinite(values).all()
    assert values == pytest.approx(ours, abs=1e-4)


def test_randomization_of_copies_of_the_network() -> None:
    metric = quantus.MPRT(layer_order="top_down", similarity_func=quantus.correlation_spearman, **QUIET)
    found = metric(network(), PHOTOS, CLASSES, explain_func=explain_func, explain_func_kwargs=WITH)
    assert found
    assert all(np.isfinite(values).all() for values in found.values())


@pytest.mark.parametrize(
    "metric",
    [
        quantus.FaithfulnessCorrelation(nr_runs=4, subset_size=16, **QUIET),
        quantus.MaxSensitivity(nr_samples=2, **QUIET),
        quantus.RandomLogit(num_classes=5, **QUIET),
    ],
    ids=lambda metric: metric.name,
)
def test_metrics_run(metric: quantus.Metric) -> None:
    found = metric(network(), PHOTOS, CLASSES, explain_func=explain_func, explain_func_kwargs=WITH)
    assert len(found) in (1, 4)  # some return a mean over the photos
    assert np.isfinite(found).all()
