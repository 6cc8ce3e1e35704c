"""``python -m benchmarks coverage --suite packages``: measure the rows that are missing, and write the table."""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.isolation import run_forked
from benchmarks.packages.case import Case, list_cases
from benchmarks.packages.table import to_markdown
from benchmarks.packages.verdict import MISSING, WRONG, judge

RESULTS = Path(__file__).parents[1] / "results"
TIMEOUT = 900  # seconds for one network
# One process imports these modules, and each network's process is forked from it. No module starts a thread.
# A module that is not installed is passed over.
PRELOADED = (
    "benchmarks.packages.row", "torchvision", "onnxruntime", "onnxscript", "timm", "transformers.modeling_utils",
    "segmentation_models_pytorch", "monai.networks.nets", "vit_pytorch",
)  # fmt: skip
# One small network of each package, for ``--one-each``.
ONE_EACH = (
    "hand-written:pyramid", "torchvision.detection:fcos, best logit", "torchvision.video:mvit",
    "torchvision.quantization:resnet18 (float)", "transformers:ViTForImageClassification",
    "segmentation_models_pytorch:Unet", "monai:ResNet 2-D", "vit-pytorch:vit.ViT", "open_clip:visual transformer",
    "torchxrayvision:ResNetAE", "facenet-pytorch:InceptionResnetV1, embedding", "efficientnet_pytorch:EfficientNet-b0",
    "fastai:xresnet18", "lightning:resnet18", "torchgeo:ResNet18, 13 bands", "pytorchvideo:x3d_xs",
    "torchreid:osnet_x0_25, embedding", "mmpretrain:ResNet", "kornia:TinyViT", "effdet:EfficientDet-d0, best cell",
    "ultralytics:yolov8n-cls",
)  # fmt: skip
# Distributions whose versions the table names.
DISTRIBUTIONS = (
    "torch", "torchvision", "timm", "onnxruntime", "transformers", "open-clip-torch", "segmentation-models-pytorch",
    "monai", "torchxrayvision", "facenet-pytorch", "efficientnet-pytorch", "fastai", "lightning", "torchgeo",
    "pytorchvideo", "effdet", "vit-pytorch", "anomalib", "torchreid", "mmpretrain", "kornia", "ultralytics",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write ``packages.json`` and ``packages.md``, and tell by the exit status whether all rows are right."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage --suite packages", description=__doc__)
    parser.add_argument("--family", action="append", metavar="TEXT", help="only networks whose name has this in it")
    parser.add_argument("--one-each", action="store_true", help="only one small network of each package")
    parser.add_argument("--again", action="store_true", help="measure networks that already have a result, too")
    parser.add_argument("--failed", action="store_true", help="measure networks that are wrong or not installed, too")
    parser.add_argument("--quick", action="store_true", help="in PyTorch alone, without artifacts")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    cases = list_cases()
    chosen = [c for c in cases if not arguments.family or any(text in c.key for text in arguments.family)]
    if arguments.one_each:
        chosen = [case for case in chosen if case.key in ONE_EACH]
    path = arguments.out / "packages.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    stored = json.loads(path.read_text()) if path.exists() else {}
    known = {case.key for case in cases}
    rows = {key: row for key, row in stored.get("rows", {}).items() if key in known}
    results: dict[str, Any] = {"environment": {**stored.get("environment", {}), **describe_environment()}, "rows": rows}
    wanted = [case for case in chosen if arguments.again or _is_wanted(case, rows.get(case.key), arguments)]
    for case in tqdm(wanted, unit="network", disable=None):
        row = _measure_isolated(case, arguments.quick)
        _keep(rows, case, row)
        print(f"{case.key}: {row['verdict']} {row['reason']}", file=sys.stderr, flush=True)
        results["rows"] = {c.key: rows[c.key] for c in cases if c.key in rows}
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(results, indent=1) + "\n")
        temporary.replace(path)
    for case in cases:  # the rule or the expectation may have changed since
        if case.key in rows:
            rows[case.key]["verdict"], rows[case.key]["reason"] = judge(case, rows[case.key])
    (arguments.out / "packages.md").write_text(to_markdown(cases, results))
    path.write_text(json.dumps(results, indent=1) + "\n")
    verdicts = [rows[case.key]["verdict"] for case in chosen if case.key in rows]
    print(", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts)), file=sys.stderr)
    return 1 if WRONG in verdicts else 0


def _is_wanted(case: Case, row: dict[str, Any] | None, arguments: argparse.Namespace) -> bool:
    if row is None or (arguments.failed and judge(case, row)[0] in (WRONG, MISSING)):
        return True
    return not arguments.quick and row.get("quick", False)


def _keep(rows: dict[str, Any], case: Case, row: dict[str, Any]) -> None:
    """Keep the new row, but no missing package in place of a measured one: packages may need several environments."""
    row["verdict"], row["reason"] = judge(case, row)
    if row["verdict"] != MISSING or case.key not in rows:
        rows[case.key] = row


def _measure_isolated(case: Case, quick: bool) -> dict[str, Any]:
    row, reason = run_forked(measure_by_key, case.key, quick, timeout=TIMEOUT, preload=PRELOADED)
    if row is None:
        return {"network": case.key, "stage": "eager", "error": reason, "ours": False}
    measured: dict[str, Any] = row
    return measured


def measure_by_key(key: str, quick: bool) -> dict[str, Any]:
    """Measure in the process of the row; a case itself cannot travel there."""
    from benchmarks.packages.row import measure

    return measure(next(case for case in list_cases() if case.key == key), quick)


def describe_environment() -> dict[str, str]:
    """The versions that the figures depend on."""
    found = {"python": sys.version.split()[0]}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
