"""The measuring core: pairs, resuming, isolation, and a report that tells losses."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import run, targets
from benchmarks.isolation import MeasurementError, run_isolated
from benchmarks.results import Results
from benchmarks.suites import SUITES, Settings, Suite, Task, edge
from benchmarks.tables import make_table
from benchmarks.timing import Effort, Sample, compute_quantiles, measure_first_calls, measure_memory, measure_pairs


def test_plain_and_explained_run_in_turn_and_who_is_first_alternates() -> None:
    calls: list[str] = []
    clock = {"plain": 2.0, "explained": 3.0}

    def timed(call: object) -> Sample:
        call()  # type: ignore[operator]
        return Sample(wall=10.0, cpu=clock[calls[-1]])

    effort = Effort(seconds=0, least=3, most=9, warm_up=1)
    found = measure_pairs(lambda: calls.append("plain"), lambda: calls.append("explained"), effort, timed)
    assert calls == ["plain", "explained"] * 2 + ["explained", "plain"] + ["plain", "explained"]
    assert found["pairs"] == 3
    assert found["ratio"] == {"p25": 1.5, "p50": 1.5, "p75": 1.5}
    assert found["ratio_wall"]["p50"] == 1.0
    assert found["explained"]["cpu_ms"]["p50"] == 3.0


def test_the_ratio_is_formed_within_pairs() -> None:
    costs = iter([1.0, 1.1, 11.0, 10.0, 100.0, 110.0])  # the machine slows down; the second pair begins with explained
    found = measure_pairs(
        lambda: None, lambda: None, Effort(0, least=3, most=3, warm_up=0), lambda _: Sample(1.0, next(costs))
    )
    assert found["ratio"] == {"p25": 1.1, "p50": 1.1, "p75": 1.1}


def test_quantiles_lie_between_the_nearest_values() -> None:
    assert compute_quantiles([4.0, 1.0, 2.0, 3.0]) == {"p50": 2.5, "p90": 3.7, "p99": 3.97, "iqr": 1.5}


def test_loading_and_the_first_call_are_told_apart() -> None:
    def opened() -> object:
        time.sleep(0.02)
        return lambda: None

    (found,) = measure_first_calls([opened], repeats=3)  # type: ignore[list-item]
    assert found["load_ms"] > 15 > found["first_call_ms"]


def test_memory_is_that_of_the_calls() -> None:
    found = run_isolated(_measure_64_mib)
    assert 60 < found["peak_mib"] - found["before_mib"] < 90


def test_isolated_measurements_run_elsewhere_with_quiet_threads() -> None:
    found = run_isolated(_process, 3, threads=2)
    assert found["process"] != os.getpid()
    assert found["argument"] == 3
    assert (found["threads"], found["policy"]) == ("2", "passive")
    with pytest.raises(MeasurementError, match=r"ValueError: no such thing \(test_measuring.py:\d+\)"):
        run_isolated(_refuse)
    with pytest.raises(MeasurementError, match="the process ended with code 3"):
        run_isolated(_crash)


def _measure_64_mib() -> dict[str, float]:
    return measure_memory(lambda: bytearray(os.urandom(1)) * (64 << 20), calls=1)


def _process(argument: int) -> dict[str, object]:
    names = {"threads": "OMP_NUM_THREADS", "policy": "OMP_WAIT_POLICY"}
    return {"process": os.getpid(), "argument": argument, **{key: os.environ[name] for key, name in names.items()}}


def _refuse() -> dict[str, object]:
    raise ValueError("no such thing")


def _crash() -> dict[str, object]:
    os._exit(3)


def test_an_interrupted_run_goes_on_and_failures_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []

    def measure(key: str) -> dict[str, object]:
        measured.append(key)
        if key == "b":
            raise MeasurementError("broken")
        return {"value": key}

    def tasks(settings: Settings) -> list[Task]:
        assert settings.threads == 2
        return [Task(key, lambda key=key: measure(key)) for key in "abc"]  # type: ignore[misc]

    suite = Suite("?", tasks, lambda rows: make_table(["key"], [[key] for key in rows]))
    monkeypatch.setattr(run, "find_suite", lambda name: suite)
    command = ["--suite", "gpu", "--threads", "2", "--out", str(tmp_path)]
    assert run.main(command) == 1
    assert run.main(command) == 1
    assert measured == ["a", "b", "c", "b"]
    results = Results(tmp_path, "gpu")
    assert list(results.rows) == ["a", "b", "c"]
    assert results.rows["b"] == {"failed": "broken"}
    assert "python" in results.environment


def test_targets_tell_losses_and_what_is_missing(tmp_path: Path) -> None:
    found = {name: Results(tmp_path, name) for name in SUITES}
    for model, cost in (("resnet18", 1.01), ("vit_b_16", 1.07)):
        measured = {"1": {"ratio": {"p50": cost}}}
        row = {"model": model, "runtime": "onnx", "where": "last", "floor": 1.0, "batches": measured}
        found["runtimes"].put(model, row, [])
    lines = {line[0]: line[1:] for line in targets.make_rows(found)}
    assert lines["onnx, last layer"] == ["≤ 1.05", "1.070", "vit_b_16, batch 1", "no", "1 of 2"]
    assert lines["onnx, last layer under pooling and one linear layer"][1:4] == ["1.010", "resnet18, batch 1", "yes"]
    assert lines["eager, last layer"][1] == "not measured"


RIGHT = {"cam": 0.001, "correlation": 0.9999}
WRONG: dict[str, dict[str, Any]] = {
    "runtimes": {
        "parity": {"plain": {"logits": 1e-6}, "explained": {"logits": 1e-6, "cam": 0.99, "correlation": 0.078}}
    },
    "peers": {"agreement": {"cam": 1.0, "correlation": 0.0}},
    "gpu": {"agreement": {"cam": 0.69, "correlation": 0.70}},
    "photos": {"difference": {"logits": 0.5, "overlay_levels_mean": 0.2}},
    "edge": {"parity": {"logits": 1e-6, "cam": 0.4, "correlation": 0.995}},
    "scaling": {"parity": {"explained": {"correlation": math.nan}}},
}


@pytest.mark.parametrize("suite", WRONG)
def test_a_row_with_a_wrong_map_is_a_failed_row(suite: str, tmp_path: Path) -> None:
    results = Results(tmp_path, suite)
    results.put("net/last/onnx", {"model": "net", "forwards": 1.0, **WRONG[suite]}, [])
    results.put("other", {"model": "other", "agreement": RIGHT}, [])
    assert results.rows["net/last/onnx"].keys() == {"model", "failed"}
    assert "wrong" in results.rows["net/last/onnx"]["failed"]
    assert not results.has("net/last/onnx")
    assert results.has("other")


def test_published_results_with_a_wrong_map_count_as_failed(tmp_path: Path) -> None:
    row = {"model": "vit_b_16", "runtime": "onnx", "where": "last", "batches": {"1": {"ratio": {"p50": 1.0}}}}
    stored = {"vit_b_16/last/onnx": {**row, **WRONG["runtimes"]}, "net/last/onnx": {"failed": "the process ended"}}
    (tmp_path / "runtimes.json").write_text(json.dumps({"rows": stored}))
    found = {name: Results(tmp_path, name) for name in SUITES}
    lines = {line[0]: line[1:] for line in targets.make_rows(found)}
    assert lines["onnx, last layer"][1:] == ["failed", "vit_b_16", "no", "0 of 2"]
    assert lines["onnx, peak memory, last layer, batch 8"][3:] == ["no", "0 of 2"]


def test_a_comparison_with_a_wrong_map_shows_no_speed(tmp_path: Path) -> None:
    found = {name: Results(tmp_path, name) for name in SUITES}
    for library, agreement in (("explainable_model", RIGHT), ("pytorch-grad-cam", WRONG["peers"]["agreement"])):
        row = {"model": "net", "method": "scorecam", "library": library, "forwards": 9.0, "agreement": agreement}
        found["peers"].put(f"net/scorecam/{library}", row, [])
    lines = {line[0]: line[1:] for line in targets.make_rows(found)}
    assert lines["scorecam, times as fast as pytorch-grad-cam"][1:] == ["failed", "net", "no", "0 of 1"]


def test_the_edge_table_has_no_times_of_an_emulated_device() -> None:
    ratio = {"median": 1.02, "low": 1.01, "high": 1.03}
    row = {
        "model": "net",
        "device": {"machine": "aarch64"},
        "runtime": {"name": "onnxruntime"},
        "parity": {"cam": 2e-6, "logits": 1e-6},
    }
    emulated = {**row, "emulated": True, "ratio": None, "minutes": None, "explained": {}}
    minute = {"ratio": {**ratio, "median": 1.025}, "explained": {"cpu_ms": 12.0}, "celsius": 61.5, "watts": None}
    timed = {**row, "emulated": False, "ratio": ratio, "minutes": [minute], "explained": {"cpu_ms": 9.0}}
    table = edge.to_markdown({"emulated/net": emulated, "host/net": timed})
    assert "| aarch64 | net | onnxruntime | emulated: no times |  |  |  |  | 2e-06 | 1e-06 |" in table
    assert "| 1.020 (1.010 to 1.030) | 1.025 (1.010 to 1.030) | 12 | 61.5 | null | 2e-06 | 1e-06 |" in table
