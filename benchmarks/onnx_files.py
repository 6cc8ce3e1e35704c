"""Measure whether ONNX files of known networks are read, and explained as the networks that they were exported from.

A row is a network, an exporter and an opset. It passes if the file is read (its outputs equal ONNX Runtime's at two
batch sizes), if the map at the network's own default layer equals the network's, and if the explained files that are
exported from it, for ONNX Runtime and as TorchScript, give the map of the network in their own runtimes.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.isolation import run_forked
from benchmarks.onnx_kept import CASES as KEPT_CASES
from benchmarks.onnx_kept import KeptCase, is_present, measure_kept
from benchmarks.results import RESULTS
from explainable_model import ExplainableModel, export, from_onnx, load, lower
from explainable_model.eager.find_layer import default_layer
from explainable_model.errors import ExplainableModelError
from explainable_model.writing import write_bytes

TIMEOUT = 900  # seconds for one row
SIZE = 64
CLOSE = 1e-5  # between the map of a file and that of its network
EXPORTERS = (("legacy", 17), ("dynamo", 18), ("legacy", 14), ("dynamo", 20))
EXPLAINED = {"onnx": ".onnx", "torchscript": ".ts"}  # the formats that each file is exported to
NEAR = 1e-3  # between the map of an explained file in float32 and that of the network in float64
NETWORKS: dict[str, dict[str, Any]] = {
    "torchvision:resnet18": {},
    "torchvision:mobilenet_v3_small": {},
    "torchvision:efficientnet_b0": {},
    "torchvision:densenet121": {},
    "torchvision:squeezenet1_1": {},
    "torchvision:shufflenet_v2_x0_5": {},
    "torchvision:regnet_y_400mf": {},
    "torchvision:mnasnet0_5": {},
    "torchvision:swin_t": {},
    "timm:vit_tiny_patch16_224": {"img_size": SIZE},
    "timm:convnext_atto": {},
    "timm:tf_efficientnet_lite0": {},
    "timm:ghostnet_100": {},
    "timm:mobilevit_xxs": {},
    "timm:resnet10t": {},
    "timm:repvgg_a0": {},
}
PRELOADED = ["torchvision", "timm", "onnxruntime", "onnxscript", "benchmarks.onnx_files"]


@dataclass(frozen=True)
class FileCase:
    """One file: the network, the exporter and the opset that it is made with."""

    network: str
    exporter: str
    opset: int

    @property
    def key(self) -> str:
        return f"{self.network} {self.exporter} {self.opset}"


CASES = [FileCase(network, *how) for how in EXPORTERS for network in NETWORKS]


def build_network(name: str) -> nn.Module:
    """A network with random weights, and norms that have seen some images."""
    import timm
    import torchvision

    library, _, model = name.partition(":")
    torch.manual_seed(0)
    options = NETWORKS[name]
    network = torchvision.models.get_model(model, weights=None, **options) if library == "torchvision" else None
    network = timm.create_model(model, **options) if network is None else network
    with torch.no_grad():
        network.train()(torch.randn(8, 3, SIZE, SIZE))
    return network.eval()


def write_file(network: nn.Module, case: FileCase, path: Path) -> None:
    """Export a network with one of PyTorch's two exporters, its batch open."""
    image = torch.randn(2, 3, SIZE, SIZE)
    options: dict[str, Any] = {"opset_version": case.opset, "input_names": ["input"]}
    if case.exporter == "legacy":
        options |= {"dynamo": False, "dynamic_axes": {"input": {0: "N"}}}
    else:
        shapes = ({0: torch.export.Dim("N")},)
        options |= {"dynamo": True, "dynamic_shapes": shapes, "external_data": False, "verbose": False}
    torch.onnx.export(network, (image,), str(path), **options)


def measure(case: FileCase) -> dict[str, Any]:
    """Measure one row."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    row: dict[str, Any] = {**asdict(case), "passed": False, "reason": ""}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.onnx"
        network = build_network(case.network)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # a failing exporter prints its whole graph
                write_file(network, case, path)
        except Exception as error:
            message = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return {**row, "reason": f"PyTorch's exporter refuses the network: {message[:200]}"}
        try:
            _compare(row, network, path, case)
        except ExplainableModelError as error:
            row["reason"] = str(error).replace(folder, "")
    row["passed"] = not row["reason"]
    return row


def _compare(row: dict[str, Any], network: nn.Module, path: Path, case: FileCase) -> None:
    begin = time.process_time()
    read = from_onnx(path, size=(SIZE, SIZE))
    row.update(read_seconds=round(time.process_time() - begin, 1), batch=read.fixed_batch)
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    layer, own = default_layer(network, images), default_layer(read, images)
    named = layer if layer in read.layer_aliases else own
    row.update(layer=layer, automatic=own, named=named == layer)
    expected, automatic, found = _explain((network, layer), (read, own), (read, named), images=images)
    row.update(map=_distance(found, expected), automatic_map=_distance(automatic, expected))
    if bool(expected.flatten(1).amax(1).min() == 0):
        row["reason"] = "the map is zero"
    elif row["map"] > CLOSE:
        row["reason"] = f"the map is off by {row['map']:.1e}"
    else:
        _export(row, read.float(), named, path, images, expected)


def _export(
    row: dict[str, Any], read: nn.Module, layer: str, path: Path, images: torch.Tensor, expected: torch.Tensor
) -> None:
    """Export the network of a file to every format of ``EXPLAINED``, and compare maps with the original network's."""
    begin = time.process_time()
    lowered = lower(ExplainableModel(read, target_layer=layer), images)
    row["explained"] = {}
    for name, suffix in EXPLAINED.items():
        target = path.with_name(f"explained{suffix}")
        export(lowered, target)  # compares the file with the network's graph
        session = load(target)
        row["explained"][name] = _distance(torch.from_numpy(session(images.numpy()).cam).double(), expected)
        row["explained_batch"] = session.metadata.batch
    row["export_seconds"] = round(time.process_time() - begin, 1)
    off = {name: value for name, value in row["explained"].items() if not value <= NEAR}
    row["reason"] = ", ".join(
        f"the map of the explained {name} file is off by {value:.1e}" for name, value in off.items()
    )


def _explain(*pairs: tuple[nn.Module, str], images: torch.Tensor) -> list[torch.Tensor]:
    """Maps in float64, where rounding hides no difference of the networks; the file's weights stay float32."""
    return [ExplainableModel(net.double(), target_layer=layer)(images.double()).cam for net, layer in pairs]


def _distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max()) if ours.shape == theirs.shape else float("inf")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that the results lack, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage --suite onnx", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", help="only rows with this text in their key")
    parser.add_argument("--again", action="store_true", help="measure rows that have a result, too")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    given = parser.parse_args(argv)
    path = given.out / "onnx.json"
    rows: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    every: list[FileCase | KeptCase] = [*CASES, *KEPT_CASES]
    wanted = [c for c in every if (not given.only or given.only in c.key) and (given.again or c.key not in rows)]
    wanted = [c for c in wanted if isinstance(c, FileCase) or is_present(c)]
    for case in tqdm(wanted, unit="file", disable=None):
        function = measure if isinstance(case, FileCase) else measure_kept
        row, reason = run_forked(function, case, timeout=TIMEOUT, preload=PRELOADED)
        rows[case.key] = row or {**asdict(case), "passed": False, "reason": reason}
        verdict = "ok" if rows[case.key]["passed"] else f"FAILED: {rows[case.key]['reason']}"
        tqdm.write(f"{case.key}: {verdict}", file=sys.stderr)
        rows = {c.key: rows[c.key] for c in every if c.key in rows}
        write_bytes(path, (json.dumps(rows, indent=1) + "\n").encode())
    write_bytes(given.out / "onnx.md", to_markdown(rows).encode())
    if given.json:
        print(json.dumps(rows, indent=1))
    passed = sum(row["passed"] for row in rows.values())
    print(f"{passed} of {len(rows)} rows pass", file=sys.stderr)
    return 0 if passed == len(rows) else 1


def to_markdown(rows: dict[str, Any]) -> str:
    """Write the table of all rows."""
    passed = sum(row["passed"] for row in rows.values())
    kept = {case.key for case in KEPT_CASES}
    lines = [
        "# ONNX files",
        "",
        f"{passed} of {len(rows)} rows pass. Generated by `python -m benchmarks coverage --suite onnx`; a map is "
        "compared with that of the network that the file was exported from, at that network's default layer. The "
        "automatic choice is the layer that is explained where nobody names one. In a file it may be another one: "
        "activations that a network calls as functions are layers there, such as the ReLU at the end of DenseNet.",
        "",
        "| network | exporter | opset | layer | map | automatic choice | explained ONNX | explained TorchScript | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        if key not in kept:
            lines.append(_write_row(row, [row.get("map"), _write_automatic(row)], tuple(EXPLAINED)))
    lines += [
        "",
        "## Files whose own nodes are kept",
        "",
        "Files of packages, with trained weights, and int8 files. `kept` is the explained file with the file's own "
        "nodes, compared with the map in PyTorch; `map` compares that one with the map of the whole file in PyTorch. "
        "`yes unfused`: ONNX Runtime fuses the same nodes in another order; without its fusions the logits are equal.",
        "",
        "| file | written by | opset | layer | map | kept | same logits | explained ONNX | explained TorchScript | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key, row in rows.items():
        if key in kept:
            own, same = row.get("explained", {}).get("kept"), _write_same(row)
            lines.append(_write_row(row, [row.get("map"), own, same], tuple(EXPLAINED)))
    return "\n".join(lines) + "\n"


def _write_same(row: dict[str, Any]) -> str:
    """Whether the logits are those of the file to the last bit."""
    if row.get("logits", 0) == 0:
        return "yes" if row.get("same_logits") else "no"
    return f"{row['logits']:.0e}" + (", yes unfused" if row.get("same_logits") else "")


def _write_automatic(row: dict[str, Any]) -> str | None:
    """How far the map is at the layer that is chosen from the file alone, and which one it is where it is another."""
    distance = row.get("automatic_map")
    if distance is None or distance <= CLOSE:
        return None if distance is None else f"{distance:.0e}"
    return f"{distance:.0e}, at {row['automatic']}"


def _write_row(row: dict[str, Any], first: Sequence[float | str | None], formats: Sequence[str]) -> str:
    values = [*first, *(row.get("explained", {}).get(name) for name in formats)]
    cells = ["" if value is None else value if isinstance(value, str) else f"{value:.0e}" for value in values]
    verdict = "ok" if row["passed"] else row["reason"].replace("|", "/").replace("\n", " ")
    name = f"{row['network']} {row.get('version', '')}".strip()
    name += f" ({row['score']})" if row.get("score") else ""
    start = f"| {name} | {row['exporter']} | {row['opset']} | {row.get('layer', '')} | "
    return f"{start}{' | '.join(cells)} | {verdict} |"
