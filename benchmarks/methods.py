"""What each method costs.

Cost: process CPU time of one eager call on one image, divided by that of the network's own forward, one thread.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.coverage import RESULTS, environment
from explainable_model import METHODS, ExplainableModel
from explainable_model.demo import efficientnet_lite0

TRANSFORMER_METHODS = ("vitreciprocam", "legrad", "rollout")
RUNS = 7
ONCE = 10.0  # seconds above which a call is measured once


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every method and write ``methods.json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks methods", description=__doc__)
    parser.add_argument("--method", action="append", choices=list(METHODS), help="only these; others keep their row")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    path = arguments.out / "methods.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    for name in arguments.method or METHODS:
        rows[name] = measure_cost(name)
        print(f"{name}: {rows[name]}", file=sys.stderr, flush=True)
        ordered = {key: rows[key] for key in METHODS if key in rows}
        path.write_text(json.dumps({"environment": environment(), "rows": ordered}, indent=1) + "\n")
    return 0


def measure_cost(name: str) -> dict[str, Any]:
    """Cost of one explanation in forwards of the network, and what it was measured on."""
    transformer = name in TRANSFORMER_METHODS
    model = _seeded("deit_tiny_patch16_224") if transformer else efficientnet_lite0().model
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    explainable = ExplainableModel(model, None, name)
    _ready(explainable, image)
    seconds, runs = cpu_seconds(lambda: explainable(image))
    forward, _ = cpu_seconds(lambda: _forward(model, image))
    return {
        "network": "DeiT-Tiny" if transformer else "EfficientNet-Lite0",
        "cost": seconds / forward,
        "seconds": seconds,
        "forward_seconds": forward,
        "runs": runs,
    }


def cpu_seconds(run: Callable[[], object]) -> tuple[float, int]:
    """Median CPU time of this process and how many runs it is of; the first run warms up, unless it takes too long."""
    first = _timed(run)
    if first > ONCE:
        return first, 1
    return statistics.median(_timed(run) for _ in range(RUNS)), RUNS


def _timed(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def _ready(explainable: ExplainableModel, image: Tensor) -> None:
    """Let the layer be found and the graph be captured, which happens once for each size of image."""
    with torch.inference_mode(False), torch.no_grad():
        explainable._ready(image, None, ())


@torch.no_grad()
def _forward(model: nn.Module, image: Tensor) -> None:
    model(image)


def _seeded(name: str) -> nn.Module:
    import timm

    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name).eval()
    return model
