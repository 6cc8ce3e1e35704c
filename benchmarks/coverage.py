"""Measure which networks and layers can be explained in which format, and how exactly.

Each network runs in its own process, so that a crash costs one row. A row passes if the eager map equals an
independent autograd reference, the lowered graph equals the eager map in float64, and every format equals the eager map
in its own runtime, on new images and at other batch sizes. A map that is zero everywhere proves nothing and does not
count.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.isolation import run_forked
from benchmarks.networks import NETWORKS, Network
from explainable_model.writing import write_bytes

RESULTS = Path(__file__).parent / "results"
TIMEOUT = 1800  # seconds for one network
SUITES = ("networks", "packages", "onnx")
# One process imports these modules, and each network's process is forked from it. No module starts a thread.
PRELOADED = ["benchmarks.coverage_row", "torchvision", "timm", "onnxruntime", "onnxscript"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that the results file lacks, and write the table."""
    argv = sys.argv[2:] if argv is None else argv
    if "--suite" in argv:
        return _run_suite(argv)
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage", description=__doc__)
    parser.add_argument("--suite", choices=SUITES, default=SUITES[0], help="default: %(default)s")
    parser.add_argument("--family", action="append", metavar="TEXT", help="only networks whose name has this in it")
    parser.add_argument("--again", action="store_true", help="measure networks that already have a result, too")
    parser.add_argument("--failed", action="store_true", help="measure networks that failed, too")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    arguments = parser.parse_args(argv)
    chosen = [n for n in NETWORKS if not arguments.family or any(text in n.key for text in arguments.family)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "coverage.json"
    results: dict[str, Any] = {"environment": describe_environment(), "rows": {}}
    if path.exists():
        known = {network.key for network in NETWORKS}
        results["rows"] = {key: rows for key, rows in json.loads(path.read_text())["rows"].items() if key in known}
    wanted = [n for n in chosen if arguments.again or _is_wanted(results["rows"].get(n.key), arguments.failed)]
    _run(wanted, results, path)
    write_bytes(arguments.out / "coverage.md", to_markdown(results).encode())
    rows = [row for n in chosen for row in results["rows"].get(n.key, [])]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    failed = [row for row in rows if not row["passed"]]
    print(f"{len(rows) - len(failed)} of {len(rows)} rows pass", file=sys.stderr)
    return 1 if failed else 0


def _run_suite(argv: Sequence[str]) -> int:
    """Run the table that ``--suite`` names."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--suite", choices=SUITES, default=SUITES[0])
    arguments, rest = parser.parse_known_args(argv)
    if arguments.suite == "networks":
        return main(rest)
    if arguments.suite == "onnx":
        from benchmarks.onnx_files import main as measure_files

        return measure_files(rest)
    from benchmarks.packages.command import main as measure_packages

    return measure_packages(rest)


def _is_wanted(rows: list[dict[str, Any]] | None, failed: bool) -> bool:
    return rows is None or (failed and not all(row["passed"] for row in rows))


def _run(networks: Sequence[Network], results: dict[str, Any], path: Path) -> None:
    with tqdm(networks, unit="network", disable=None) as progress:
        for network in progress:
            progress.set_description(network.key)
            rows = results["rows"][network.key] = _measure_isolated(network)
            for row in rows:
                verdict = "ok" if row["passed"] else f"FAILED: {row['reason']}"
                tqdm.write(f"{network.key} {row['where']} {row['layer']}: {verdict}", file=sys.stderr)
            results["rows"] = {n.key: results["rows"][n.key] for n in NETWORKS if n.key in results["rows"]}
            write_bytes(path, (json.dumps(results, indent=1) + "\n").encode())  # an interrupted run keeps its rows


def _measure_isolated(network: Network) -> list[dict[str, Any]]:
    """Measure one network in a new process."""
    rows, reason = run_forked(_measure, network, timeout=TIMEOUT, preload=PRELOADED)
    if rows is None:
        return [{"network": network.key, "where": "all", "layer": "", "passed": False, "reason": reason}]
    measured: list[dict[str, Any]] = rows
    return measured


def _measure(network: Network) -> list[dict[str, Any]]:
    from benchmarks.coverage_row import measure

    return measure(network)


def to_markdown(results: dict[str, Any]) -> str:
    """Write the table of all rows."""
    from benchmarks.coverage_row import FORMATS

    rows = [row for each in results["rows"].values() for row in each]
    columns = (*FORMATS, "openvino")
    lines = [
        "# Coverage",
        "",
        f"{_count_passed(rows)} rows pass: {', '.join(_count_by_library(rows))}. Generated by "
        "`python -m benchmarks coverage`; its README.md explains the columns.",
        "",
        "| network | layer | lowered | TorchScript | pt2 | ONNX Runtime | OpenVINO | lower s | operators | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        formats = row.get("formats", {})
        cells = [f"{formats[name]['median']:.0e}" if "median" in formats.get(name, {}) else "" for name in columns]
        lowered = f"{row['lowered']:.0e}" if "lowered" in row else ""
        verdict = "ok" if row.get("dynamic_batch", True) else "ok, at the example's batch size only"
        verdict = verdict if row["passed"] else row["reason"].replace("|", "/")
        lines.append(
            f"| {row['network']} | {row['layer']} | {lowered} | {' | '.join(cells)} | {row.get('lower_seconds', '')} | "
            f"{row.get('operators', '')} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def _count_passed(rows: Sequence[dict[str, Any]]) -> str:
    return f"{sum(row['passed'] for row in rows)} of {len(rows)}"


def _count_by_library(rows: Sequence[dict[str, Any]]) -> list[str]:
    libraries = dict.fromkeys(row["network"].split(":")[0] for row in rows)
    return [f"{_count_passed([r for r in rows if r['network'].startswith(f'{name}:')])} {name}" for name in libraries]


def describe_environment() -> dict[str, str]:
    """The versions that the figures depend on."""
    import onnxruntime
    import timm
    import torch
    import torchvision

    return {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
