"""What every test runs under."""

import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the suite is the same with and without a GPU

import pytest
import torch

from tests.support.cli_run import artifacts_fixture, photos_fixture  # noqa: F401
from tests.support.nets import CASES, Case, seeded


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def network(case: Case) -> torch.nn.Module:
    return seeded(case.network())
