"""Which networks and layers can be explained in which format, and how exactly.

Each network runs in a process of its own, so that a crash costs one row. A row passes if the eager map equals an
independent autograd reference, the lowered graph equals the eager map in float64, and every format equals the eager map
in its own runtime, on fresh images and at other batch sizes; a map that is zero everywhere proves nothing and does not
count.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.networks import NETWORKS, Network, build

RESULTS = Path(__file__).parent / "results"
FORMATS = ("torchscript", "pt2", "onnx")
TIMEOUT = 900  # seconds for one network
REFERENCE_TOLERANCE = 1e-9  # float64, in units of the largest value of the map
FORMAT_TOLERANCE = 1e-3  # float32, normalised maps


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing in the results file, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage", description=__doc__)
    parser.add_argument("--family", action="append", metavar="TEXT", help="only networks whose name has this in it")
    parser.add_argument("--again", action="store_true", help="measure networks that already have a result, too")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--one", metavar="KEY", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        print(json.dumps(measure(next(n for n in NETWORKS if n.key == arguments.one))))
        return 0
    chosen = [n for n in NETWORKS if not arguments.family or any(text in n.key for text in arguments.family)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = _run(chosen, arguments.out / "coverage.json", again=arguments.again)
    (arguments.out / "coverage.md").write_text(to_markdown(results))
    rows = [row for n in chosen for row in results["rows"].get(n.key, [])]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    failed = [row for row in rows if not row["passed"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} rows pass", file=sys.stderr)
    return 1 if failed else 0


def _run(networks: Sequence[Network], path: Path, *, again: bool) -> dict[str, Any]:
    results: dict[str, Any] = {"environment": environment(), "rows": {}}
    if path.exists():
        results["rows"] = json.loads(path.read_text())["rows"]
    todo = [n for n in networks if again or n.key not in results["rows"]]
    for number, network in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {network.key}", file=sys.stderr, flush=True)
        results["rows"][network.key] = _isolated(network)
        for row in results["rows"][network.key]:
            mark = "ok" if row["passed"] else f"FAILED: {row['reason']}"
            print(f"    {row['where']:5} {row['layer']}: {mark}", file=sys.stderr, flush=True)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(results, indent=1))
        temporary.replace(path)  # an interrupted run keeps what it measured
    return results


def _isolated(network: Network) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks", "coverage", "--one", network.key]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        if done.returncode == 0:
            rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return rows
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"not done after {TIMEOUT} s"
    return [{"network": network.key, "where": "all", "layer": "", "passed": False, "reason": reason}]


def measure(network: Network) -> list[dict[str, Any]]:
    """Both rows of one network."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = build(network)
    return [measure_layer(network, model, where) for where in ("last", "early")]


def measure_layer(network: Network, model: torch.nn.Module, where: str) -> dict[str, Any]:
    """One row: every comparison at one layer, and why it fails if it does."""
    from explainable_model import ExplainableModel

    image = torch.randn(2, 3, network.size, network.size, generator=torch.Generator().manual_seed(1))
    row: dict[str, Any] = {"network": network.key, "where": where, "layer": network.early, "passed": False}
    try:
        explainable = ExplainableModel(model, None if where == "last" else network.early)
        explainable(image)
        row["layer"] = explainable.target_layer
        row.update(_compare_exactly(model, str(explainable.target_layer), image))
        row.update(_compare_formats(explainable, image))
        row["reason"] = _failure(row)
        row["passed"] = not row["reason"]
    except Exception as error:  # the row says why; the next row goes on
        row["reason"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return row


def _compare_exactly(model: torch.nn.Module, layer: str, image: torch.Tensor) -> dict[str, Any]:
    """In float64: eager against a reference that knows nothing of this library's code, lowered against eager."""
    from explainable_model import ExplainableModel, lower
    from explainable_model.layers import layout_of

    double = model.double()
    try:
        explainable = ExplainableModel(double, layer, normalize=False, upsample=False)
        fresh = torch.randn(3, *image.shape[1:], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        classes = lively_classes(explainable, fresh)
        eager = explainable(fresh, classes)
        wanted = reference_gradients(double, layer, fresh, classes)
        to_map = layout_of(layer, wanted, fresh, None)
        off = to_map(wanted) - explainable.attribute(fresh, classes).gradients
        started = time.perf_counter()
        lowered = lower(explainable, image.double())
        seconds = time.perf_counter() - started
        got = lowered(fresh, classes)
        scale = float(eager.cam.abs().max())
        return {
            "map": scale,
            "reference": float(off.abs().max() / wanted.abs().max()),
            "lowered": float((got.cam - eager.cam).abs().max()) / max(scale, 1e-300),
            "lower_seconds": round(seconds, 2),
            "operators": sum(node.op == "call_function" for node in lowered.graph_module.graph.nodes),
        }
    finally:
        model.float()


def reference_gradients(model: torch.nn.Module, layer: str, image: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Gradient of the class scores for the layer's output, by plain autograd over the whole network."""
    kept: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
        first = output if isinstance(output, torch.Tensor) else output[0]
        kept.append(first)
        return first.clone() if isinstance(output, torch.Tensor) else type(output)((first.clone(), *output[1:]))

    handle = model.get_submodule(layer).register_forward_hook(keep)
    try:
        output = model(image.clone().requires_grad_())
    finally:
        handle.remove()
    logits = output["out"] if isinstance(output, dict) else output
    scores = logits.flatten(2).sum(2) if logits.ndim > 2 else logits
    (gradients,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), kept[-1])
    return gradients


def lively_classes(explainable: Any, image: torch.Tensor, candidates: int = 6) -> torch.Tensor:
    """For each image the class, of the first few, with the largest map: a map of zeros proves nothing."""
    count = len(image)
    heights = [
        explainable(image, torch.full((count,), c)).cam.flatten(1).amax(1)
        for c in range(min(candidates, explainable(image[:1]).logits.shape[1]))
    ]
    return torch.stack(heights).argmax(0)


def _compare_formats(explainable: Any, image: torch.Tensor) -> dict[str, Any]:
    """In float32: the median and the largest difference of each format's maps, at batches 1, 2 and 5."""
    from explainable_model import lower
    from explainable_model.exporters import FORMATS as TABLE

    lowered = lower(explainable, image)
    found: dict[str, Any] = {"formats": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            fmt = TABLE[name]
            started = time.perf_counter()
            path = Path(folder) / f"network{fmt.suffixes[0]}"
            fmt.write(lowered, path, "{}")
            seconds = time.perf_counter() - started
            runner, _ = fmt.open(path, 1)
            differences: list[float] = []
            for batch in (1, 2, 5):
                generator = torch.Generator().manual_seed(10 + batch)
                fresh = torch.randn(batch, *image.shape[1:], generator=generator)
                classes = lively_classes(explainable, fresh)
                want = explainable(fresh, classes)
                cam = torch.from_numpy(runner(fresh.numpy(), classes.numpy())[2])
                differences += (cam - want.cam).flatten(1).abs().amax(1).tolist()
            found["formats"][name] = {
                "median": sorted(differences)[len(differences) // 2],
                "largest": max(differences),
                "export_seconds": round(seconds, 2),
            }
    return found


def _failure(row: dict[str, Any]) -> str:
    if row["map"] == 0:
        return "the map is zero everywhere"
    for name in ("reference", "lowered"):
        if not row[name] <= REFERENCE_TOLERANCE:
            return f"{name} differs by {row[name]:.1e}"
    for name, measured in row["formats"].items():
        if not measured["median"] <= FORMAT_TOLERANCE:
            return f"{name} differs by {measured['median']:.1e} in the median image"
    return ""


def to_markdown(results: dict[str, Any]) -> str:
    """The table of all rows."""
    rows = [row for each in results["rows"].values() for row in each]
    passed = sum(row["passed"] for row in rows)
    lines = [
        "# Coverage",
        "",
        f"{passed} of {len(rows)} rows pass. Generated by `python -m benchmarks coverage`; its README.md explains "
        "the columns.",
        "",
        "| network | layer | lowered | TorchScript | pt2 | ONNX Runtime | lower s | operators | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        formats = row.get("formats", {})
        cells = [f"{formats[name]['median']:.0e}" if name in formats else "" for name in FORMATS]
        lowered = f"{row['lowered']:.0e}" if "lowered" in row else ""
        verdict = "ok" if row["passed"] else row["reason"].replace("|", "/")
        lines.append(
            f"| {row['network']} | {row['layer']} | {lowered} | {' | '.join(cells)} | {row.get('lower_seconds', '')} | "
            f"{row.get('operators', '')} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def environment() -> dict[str, str]:
    """Versions that the figures depend on."""
    import onnxruntime
    import timm
    import torchvision

    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
