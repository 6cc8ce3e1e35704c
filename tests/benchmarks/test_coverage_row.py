"""The coverage measurement: it passes what is right and says why where something is wrong."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch

from benchmarks import coverage, coverage_row
from benchmarks.networks import NETWORKS, Network
from explainable_model import LOWERINGS
from tests.support.nets import SmallNet, images, seeded

NETWORK = Network("tests", "SmallNet", "stem", 16)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return seeded(SmallNet(coverage_row.CANDIDATES))


def test_a_right_row_passes(model: torch.nn.Module) -> None:
    row = coverage_row.measure_layer(NETWORK, model, "last")
    assert row["reason"] == ""
    assert row["passed"]
    assert row["layer"] == "block"
    assert row["map"] > 0
    assert row["reference"] < 1e-12
    assert set(row["formats"]) == set(coverage_row.FORMATS)
    assert all(measured["median"] < 1e-4 for measured in row["formats"].values())
    table = coverage.to_markdown({"rows": {NETWORK.key: [row]}})
    assert "1 of 1 rows pass" in table
    assert "| tests:SmallNet | block |" in table


def test_a_wrong_lowering_is_noticed(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    relu = torch.ops.aten.relu.default
    wrong = {**LOWERINGS, relu: lambda call, grad, self: {"self": grad}}
    monkeypatch.setattr("explainable_model.model.LOWERINGS", wrong)
    row = coverage_row.measure_layer(NETWORK, model, "early")
    assert not row["passed"]
    assert row["reason"].startswith("lowered differs by")


def test_an_error_is_a_row(model: torch.nn.Module) -> None:
    row = coverage_row.measure_layer(Network("tests", "SmallNet", "nowhere", 16), model, "early")
    assert not row["passed"]
    assert "'nowhere' is not in SmallNet" in row["reason"]


def test_the_reference_is_plain_autograd(model: torch.nn.Module) -> None:
    image = images(2, (3, 16, 16)).double()
    model = deepcopy(model).double()
    gradients = coverage_row.compute_reference_gradients(model, "block", image, torch.tensor([1, 2]))
    kept = model.block(model.stem(image)).detach().requires_grad_()
    logits = model.fc(kept.mean((2, 3)))
    (expected,) = torch.autograd.grad(logits[0, 1] + logits[1, 2], kept)
    assert torch.allclose(gradients, expected, rtol=0, atol=1e-12)


def test_results_are_kept_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure_isolated(network: Network) -> list[dict[str, object]]:
        measured.append(network.key)
        return [{"network": network.key, "where": "all", "layer": "", "passed": True, "reason": ""}]

    monkeypatch.setattr(coverage, "_measure_isolated", measure_isolated)
    for expected in (["torchvision:vgg11", "torchvision:vgg11_bn", "torchvision:vgg16"], []):
        measured.clear()
        assert coverage.main(["--family", "torchvision:vgg", "--out", str(tmp_path)]) == 0
        assert measured == expected
    assert len({network.key for network in NETWORKS}) == len(NETWORKS)
