"""What every test runs under, and the two lanes: ``pytest`` runs the fast tests, ``pytest -m ''`` all of them."""

import os
from collections.abc import Iterator

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the suite is the same with and without a GPU
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread in each process

import pytest
import torch

from tests.support.cli_run import artifacts_fixture, photos_fixture  # noqa: F401
from tests.support.lanes import Lanes
from tests.support.nets import CASES, Case, seeded

PROCESSES = 2
LANES = Lanes.read()
COLLECTED = pytest.StashKey[list[pytest.Item]]()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the number of processes
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in two processes unless the command line says otherwise."""
    option = config.option
    undecided = getattr(option, "numprocesses", 0) is None and not getattr(option, "tx", None)
    interactive = option.usepdb or option.capture == "no" or option.collectonly
    if undecided and not interactive and not hasattr(config, "workerinput") and _whole_suite(config):
        option.numprocesses, option.dist = PROCESSES, "loadfile"
        option.maxworkerrestart = "0"  # loadfile gives a new process the finished files again, and then waits for ever


def _whole_suite(config: pytest.Config) -> bool:
    """Whether every test is asked for, of all lanes or of one."""
    option, suite = config.option, [config.rootpath / name for name in config.getini("testpaths")]
    given = [config.invocation_params.dir / argument for argument in config.args]
    return given == suite and not (option.keyword or option.deselect or option.ignore or option.ignore_glob)


@pytest.hookimpl(tryfirst=True)  # before the tests of the other lane are deselected
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if LANES.is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)
    config.stash[COLLECTED] = list(items) if _whole_suite(config) else []


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """Every test of the suite, before one lane is chosen."""
    items = request.config.stash[COLLECTED]
    if not items:
        pytest.skip("the whole suite must be collected: run pytest without paths and without -k")
    return items


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return without_silent_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return without_silent_skip((yield))


def without_silent_skip(report: pytest.TestReport | pytest.CollectReport) -> pytest.TestReport | pytest.CollectReport:
    """In CI a test that is skipped has failed: a runtime or a tool is missing there."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        message = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not LANES.accepts_skip(message):
            report.outcome = "failed"
            report.longrepr = f"CI must not skip this test: {message}"
    return report


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def network(case: Case) -> torch.nn.Module:
    return seeded(case.network())
