"""Run ONNX artifacts of every opset in old and new ONNX Runtimes, and in ONNX's own reference.

Each runtime is installed into a folder of its own, with a NumPy of its time, and its process sees nothing else.
A runtime may refuse an opset that is newer than it is; it must not refuse an older one, nor give another map.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from benchmarks.results import RESULTS
from explainable_model import ExplainableModel, LoweredModel, export, lower
from explainable_model.exporters.onnx_opset import known_opsets
from explainable_model.writing import write_bytes

RUNTIMES = (
    "1.16.3", "1.17.3", "1.18.1", "1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.26.0", "1.28.0",
    "1.30.0", "1.32.0",
)  # fmt: skip
OLD_NUMPY = "numpy<2"  # what onnxruntime 1.16 to 1.18 were built with
NEAR = 1e-4  # the largest difference of a map from that of the network
SIZE = 64
RUNNER = Path(__file__).with_name("opset_runner.py")


def build_networks() -> dict[str, tuple[nn.Module, str]]:
    """Networks with random weights, and their explained layers: convolutions, hard activations, layer norms."""
    import torchvision

    torch.manual_seed(0)
    transformer = torchvision.models.VisionTransformer(SIZE, 16, 2, 2, 32, 64, num_classes=10)
    torch.nn.init.normal_(transformer.heads.head.weight)
    found = {
        "resnet18": (torchvision.models.resnet18(num_classes=10), "layer4"),
        "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small(num_classes=10), "features.12"),
        "vit": (transformer, "encoder.layers.encoder_layer_1.ln_1"),
    }
    with torch.no_grad():
        for network, _ in found.values():
            network.train()(torch.randn(8, 3, SIZE, SIZE))
    return {name: (network.eval(), layer) for name, (network, layer) in found.items()}


def write_files(folder: Path, opsets: Sequence[int], only: str | None) -> dict[str, Any]:
    """Write an artifact for each network and opset, and what the network answers; ``refused`` says what has no form."""
    refused = {}
    networks = {name: each for name, each in build_networks().items() if not only or only in name}
    for name, (network, layer) in networks.items():
        explainable = ExplainableModel(network, layer)
        image = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        asked = torch.tensor([-1, 3, 7])
        lowered = lower(explainable, image)
        answer = explainable(image, asked)
        want = {"logits": answer.logits.numpy(), "cam": answer.cam.numpy(), "explained": answer.class_idx.numpy()}
        np.savez(folder / f"{name}.npz", image=image.numpy(), class_idx=asked.numpy(), **want)
        for opset in tqdm(opsets, desc=f"writing {name}", disable=None):
            reason = _write_file(lowered, folder / f"{name}-{opset}.onnx", opset)
            if reason:
                refused[f"{name}-{opset}"] = reason
    return refused


def _write_file(lowered: LoweredModel, path: Path, opset: int) -> str:
    from explainable_model.errors import LoweringError

    try:
        export(lowered, path, opset=opset)
    except LoweringError as error:
        return str(error)
    return ""


def run_runtime(version: str, folder: Path) -> dict[str, Any]:
    """Install a version of ONNX Runtime beside everything else, and run every file of the folder in it."""
    old = tuple(map(int, version.split(".")[:2])) < (1, 19)
    with tempfile.TemporaryDirectory() as target:
        packages = [f"onnxruntime=={version}", OLD_NUMPY if old else "numpy"]
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", target, *packages]
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode:
            return {"missing": installed.stderr.strip().splitlines()[-1]}
        environment = {**os.environ, "PYTHONPATH": target, "ORT_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-S", str(RUNNER), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def run_reference(folder: Path) -> dict[str, Any]:
    """Run every file of the folder in ONNX's reference, which is written in Python."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    found: dict[str, Any] = {}
    for path in tqdm(sorted(folder.glob("*.onnx")), desc="onnx.reference", disable=None):
        answer = np.load(folder / f"{path.stem.rpartition('-')[0]}.npz")
        given = {"image": answer["image"][:1], "class_idx": answer["class_idx"][:1]}
        (cam,) = ReferenceEvaluator(onnx.load(path)).run(["cam"], given)
        found[path.stem] = {"cam": float(np.abs(cam - answer["cam"][:1]).max())}
    return {"version": onnx.__version__, "files": found}


def judge(version: str, result: Mapping[str, Any]) -> list[str]:
    """What a runtime did wrong: another map, or a refusal of an opset although it takes a newer one."""
    if "missing" in result:
        return [f"{version}: {result['missing']}"]
    wrong = []
    taken = [int(name.rpartition("-")[2]) for name, each in result["files"].items() if "cam" in each]
    for name, each in result["files"].items():
        if "refused" in each and int(name.rpartition("-")[2]) <= max(taken, default=0):
            wrong.append(f"{version} refuses {name}: {each['refused']}")
        elif "cam" in each and not each["cam"] <= NEAR:
            wrong.append(f"{version}: the map of {name} is off by {each['cam']:.1e}")
    return wrong


def to_markdown(results: Mapping[str, Any]) -> str:
    """One row for each runtime: the newest opset that it takes, and the largest difference of a map."""
    lines = [
        "| runtime | opsets that it runs | files | largest difference of a map |",
        "|---|---|---|---|",
    ]
    for version, result in results["runtimes"].items():
        files = {name: each for name, each in result.get("files", {}).items() if "cam" in each}
        opsets = sorted({int(name.rpartition("-")[2]) for name in files})
        if not opsets:
            lines.append(f"| {version} | none: {result.get('missing', 'it refuses every file')} | 0 | |")
            continue
        worst = max(each["cam"] for each in files.values())
        lines.append(f"| {version} | {opsets[0]} to {opsets[-1]} | {len(files)} | {worst:.0e} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files, run them in every runtime, and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks opsets", description=__doc__)
    parser.add_argument("--runtimes", nargs="*", default=list(RUNTIMES), metavar="VERSION", help="of onnxruntime")
    parser.add_argument("--opsets", nargs="*", type=int, default=list(known_opsets()), metavar="N")
    parser.add_argument("--only", metavar="TEXT", help="only networks with this text in their name")
    parser.add_argument("--files", type=Path, metavar="DIR", help="keep the files here, and use those that are there")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = given.files or Path(tempfile.mkdtemp())
    try:
        results = _measure(folder, given)
    finally:
        if given.files is None:
            shutil.rmtree(folder)
    write_bytes(given.out / "opsets.json", (json.dumps(results, indent=1) + "\n").encode())
    print(json.dumps(results, indent=1) if given.json else to_markdown(results), end="")
    wrong = [problem for version, result in results["runtimes"].items() for problem in judge(version, result)]
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


def _measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    has_files = any(folder.glob("*.onnx"))
    refused = {} if has_files else write_files(folder, given.opsets, given.only)
    runtimes = {}
    for version in tqdm(given.runtimes, desc="onnxruntime", disable=None):
        runtimes[f"onnxruntime {version}"] = run_runtime(version, folder)
    runtimes["onnx.reference"] = run_reference(folder)
    return {"torch": torch.__version__, "without_form": refused, "runtimes": runtimes}


if __name__ == "__main__":
    sys.exit(main())
