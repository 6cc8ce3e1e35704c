"""A few seeds of the fuzzer, its own oracle on a network computed by hand, and its command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from explainable_model.targets import ClassScore, Similarity
from tests.fuzz.cases import Case, draw_case, explainable_of
from tests.fuzz.checks import FORMATS, check_case
from tests.fuzz.graphs import is_blank
from tests.fuzz.networks import FuzzNet, Network
from tests.fuzz.oracle import Oracle

EAGERLY = range(24)  # most take some hundredths of a second
LOWERED = range(100, 104)
EXPORTED = range(200, 204)


@pytest.mark.parametrize("seeds", [EAGERLY[:4], EAGERLY[4:]], ids=["few", "more"])
def test_eager_is_the_oracle(seeds: range) -> None:
    for seed in seeds:
        outcome = check_case(draw_case(seed), lowers=False)
        assert not outcome.wrong, (outcome.case, outcome.wrong)


@pytest.mark.parametrize("seed", LOWERED)
def test_lowered_is_eager(seed: int) -> None:
    outcome = check_case(draw_case(seed), ())
    assert not outcome.wrong, (outcome.case, outcome.wrong)


@pytest.mark.parametrize("seed", EXPORTED)
def test_artifacts_are_eager(seed: int) -> None:
    outcome = check_case(draw_case(seed), FORMATS)
    assert not outcome.wrong, (outcome.case, outcome.wrong)


def test_a_seed_makes_the_same_case() -> None:
    first, second = draw_case(5), draw_case(5)
    assert first.describe() == second.describe()
    weights = zip(first.network.module.parameters(), second.network.module.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def by_hand(method: str) -> Case:
    """The image times 2 at the layer, then the sum of its squares: the gradient at the layer is 4 times the image."""

    class Twice(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 2 * image

    class SumOfSquares(nn.Module):
        def forward(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor.square().sum((2, 3))

    module = FuzzNet(Twice(), SumOfSquares(), None, lambda logits, other: logits, False).double().eval()
    network = Network(module, (1, 2, 2), None, "tensor", None, 1, "scores", None)
    layouts = {"body": ("channels_first", (2, 2), 0)}
    return Case(0, network, "body", False, layouts, method, {}, ClassScore(), 1, 1, None)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("gradcam", [[20.0, 40.0], [60.0, 80.0]]),  # w = mean(4 x) = 10, map = w * 2 x
        ("hirescam", [[8.0, 32.0], [72.0, 128.0]]),
        ("xgradcam", [[24.0, 48.0], [72.0, 96.0]]),  # w = sum(4 x * 2 x) / sum(2 x) = 240 / 20 = 12
    ],
)
def test_the_oracle_by_hand(method: str, expected: list[list[float]]) -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]).double()
    cam, _ = Oracle(by_hand(method), [image]).explain(0, 0, 0)
    torch.testing.assert_close(cam, torch.tensor(expected).double())


def test_the_maps_of_a_target_with_one_class_are_all_zero() -> None:
    """The network has more outputs than the target has classes."""
    drawn = (draw_case(seed) for seed in range(2000))
    case = next(case for case in drawn if isinstance(case.target, Similarity) and case.method == "gradcam")
    for weight in case.network.module.parameters():
        weight.data.zero_()
    assert is_blank(case, explainable_of(case, case.network.module, case.post))


def test_a_wrong_map_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fuzz import formulas

    seed = next(seed for seed in range(100) if draw_case(seed).method == "hirescam")
    assert check_case(draw_case(seed), lowers=False).stages["eager"] == "equal"
    monkeypatch.setitem(formulas.FORMULAS, "hirescam", lambda sight: (sight.gradients * sight.activations).mean(0))
    assert "differs by" in check_case(draw_case(seed), lowers=False).wrong["eager"]


def test_the_command_goes_on_where_it_stopped(tmp_path: Path) -> None:
    options = ["--networks", "4", "--lowered-every", "0", "--formats-every", "0"]
    paths = ["--log", str(tmp_path / "log"), "--summary", str(tmp_path / "summary")]
    command = [sys.executable, "-m", "tests.fuzz", *options, *paths]
    subprocess.run(command, check=True, capture_output=True)
    lines = (tmp_path / "log").read_text().splitlines()
    (tmp_path / "log").write_text("\n".join([*lines[:3], lines[3][:10]]) + "\n")
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    summary = json.loads((tmp_path / "summary").read_text())
    assert (summary["networks"], summary["open"]) == (4, [])
    assert "4 of 4" in second.stderr
    assert "3 of 4" not in second.stderr, "three are in the log"
