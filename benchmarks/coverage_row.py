"""Measure one row of the coverage table: a network at one layer, compared in every format."""

import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.artifacts import write_unverified
from benchmarks.networks import Network, build
from explainable_model import FORMATS as TABLE
from explainable_model import ExplainableModel, lower
from explainable_model.attribution.frames import layout_of

FORMATS = tuple(name for name, fmt in TABLE.items() if fmt.quick)
BATCHES = (1, 2, 5)
CANDIDATES = 10  # the class with the largest map among so many is explained
REFERENCE_TOLERANCE = 1e-9  # in float64, relative to the largest value of the map
SINGLE_TOLERANCE = 1e-5  # where the network itself converts to float32
FORMAT_TOLERANCE = 1e-3  # float32, normalized maps

Row = dict[str, Any]


def measure(network: Network) -> list[Row]:
    """Measure both rows of one network, in one thread."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        model = build(network)
    except Exception as error:
        return [{"network": network.key, "where": "all", "layer": "", "passed": False, "reason": describe_error(error)}]
    return [measure_layer(network, model, where) for where in ("last", "early")]


def measure_layer(network: Network, model: nn.Module, where: str) -> Row:
    """Make every comparison at one layer, and say why one fails."""
    started = time.process_time()
    row: Row = {"network": network.key, "where": where, "layer": network.early, "passed": False}
    try:
        image = _make_images(2, network.size, seed=1)
        explainable = ExplainableModel(model, None if where == "last" else network.early)
        explainable(image)
        row["layer"] = explainable.target_layer
        row.update(_compare_exactly(model, str(explainable.target_layer), image))
        row["formats"] = _compare_formats(explainable, image, (*FORMATS, *_further_formats(network)))
        row["reason"] = _find_failure(row)
    except Exception as error:  # the row says why, and the next row is measured
        row["reason"] = describe_error(error)
    row["passed"] = not row["reason"]
    row["cpu_seconds"] = round(time.process_time() - started, 1)
    return row


def describe_error(error: BaseException) -> str:
    """The type and first line of an error; of a TorchScript error the last line, which has the reason."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    if lines and "TorchScript interpreter" in lines[0]:
        return f"{type(error).__name__}: {lines[-1].strip()}"
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _make_images(batch: int, size: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _compare_exactly(model: nn.Module, layer: str, image: Tensor) -> Row:
    """Compare in float64: eager with a reference that uses none of this library's code, and lowered with eager."""
    double = model.double()
    try:
        explainable = ExplainableModel(double, layer, normalize=False, upsample=False)
        started = time.process_time()
        lowered = lower(explainable, image.double())
        seconds = time.process_time() - started
        batch = 3 if lowered.dynamic_batch else len(image)
        fresh = _make_images(batch, image.shape[-1], seed=2, dtype=torch.float64)
        classes = choose_lively_classes(explainable, fresh)
        eager = explainable(fresh, classes)
        wanted = compute_reference_gradients(double, layer, fresh, classes)
        to_map = layout_of(layer, wanted, fresh, None)
        off = to_map(wanted) - explainable.attribute(fresh, classes).gradients
        got = lowered(fresh, classes)
        scale = float(eager.cam.abs().max())
        values = [node.meta.get("val") for node in lowered.graph_module.graph.nodes]
        return {
            "dynamic_batch": lowered.dynamic_batch,
            "single": any(isinstance(value, Tensor) and value.dtype is torch.float32 for value in values),
            "map": scale,
            "reference": float(off.abs().max() / wanted.abs().max()),
            "lowered": float((got.cam - eager.cam).abs().max()) / max(scale, 1e-300),
            "lower_seconds": round(seconds, 2),
            "operators": sum(node.op == "call_function" for node in lowered.graph_module.graph.nodes),
        }
    finally:
        model.float()


def compute_reference_gradients(model: nn.Module, layer: str, image: Tensor, classes: Tensor) -> Tensor:
    """The gradient of the class scores for the layer's output, by plain autograd over the whole network."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> Any:
        first = output if isinstance(output, Tensor) else output[0]
        kept.append(first)
        return first.clone() if isinstance(output, Tensor) else type(output)((first.clone(), *output[1:]))

    handle = model.get_submodule(layer).register_forward_hook(keep)
    try:
        output = model(image.clone().requires_grad_())
    finally:
        handle.remove()
    logits = output["out"] if isinstance(output, dict) else output
    scores = logits.flatten(2).sum(2) if logits.ndim > 2 else logits
    (gradients,) = torch.autograd.grad(scores.gather(1, classes[:, None]).sum(), kept[-1])
    return gradients


def choose_lively_classes(
    explainable: ExplainableModel, image: Tensor, candidates: int = CANDIDATES, *inputs: Tensor
) -> Tensor:
    """Choose for each image the class with the largest map among the first few: a map of zeros proves nothing."""
    maps = [explainable(image, torch.full((len(image),), c), *inputs).cam.flatten(1) for c in range(candidates)]
    return torch.stack([cam.amax(1) for cam in maps]).argmax(0)


def _further_formats(network: Network) -> tuple[str, ...]:
    wanted = ("openvino",) if network.openvino else ()
    return tuple(name for name in wanted if find_spec(TABLE[name].packages[0]) is not None)


def _compare_formats(explainable: ExplainableModel, image: Tensor, formats: Sequence[str]) -> dict[str, Row]:
    """Compare in float32: the median and the largest difference of each format's maps, at several batch sizes."""
    lowered = lower(explainable, image)
    batches = BATCHES if lowered.dynamic_batch else (len(image),) * len(BATCHES)
    pool = _make_images(sum(batches), image.shape[-1], seed=10)
    images = pool.split(batches)
    classes = choose_lively_classes(explainable, pool).split(batches)
    wanted = [explainable(*case).cam for case in zip(images, classes, strict=True)]
    found: dict[str, Row] = {}
    for name in formats:
        fmt, started = TABLE[name], time.process_time()
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"network{fmt.suffixes[0]}"
                write_unverified(lowered, name, path)
                seconds = time.process_time() - started
                runner, _ = (fmt.open_trusted or fmt.open)(path, 1)  # the file was made here
                got = [runner(*map(Tensor.numpy, case))[2] for case in zip(images, classes, strict=True)]
            found[name] = {**compare_maps(wanted, got), "export_seconds": round(seconds, 2)}
        except Exception as error:
            found[name] = {"error": describe_error(error)}
            if name == "onnx" and (cause := explain_plain_failure(explainable.model, image)):
                found[name] = {"error": f"the plain network cannot be exported to ONNX: {cause}"}
    return found


def compare_maps(wanted: Sequence[Tensor], got: Sequence[Any]) -> Row:
    """The median and the largest difference of the maps of all images."""
    pairs = zip(wanted, got, strict=True)
    each = torch.cat([(torch.from_numpy(cam) - want).flatten(1).abs().amax(1) for want, cam in pairs])
    return {"median": float(each.median()), "largest": float(each.max())}


def explain_plain_failure(model: nn.Module, image: Tensor) -> str:
    """The error of PyTorch's exporter or ONNX Runtime for the plain network; empty where both succeed."""
    import onnxruntime

    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "plain.onnx"
            program = torch.onnx.export(model, (image,), dynamo=True, dynamic_shapes=(batch,), verbose=False)
            program.save(path)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            session.run(None, {session.get_inputs()[0].name: image[:1].numpy()})
    except Exception as error:
        while error.__cause__ is not None:
            error = error.__cause__
        return describe_error(error).replace(f"{tempfile.gettempdir()}/", "")
    return ""


def _find_failure(row: Row) -> str:
    """The reason why a row fails; empty where it passes."""
    if row["map"] == 0:
        return "the map is zero everywhere"
    tolerance = SINGLE_TOLERANCE if row["single"] else REFERENCE_TOLERANCE
    for name in ("reference", "lowered"):
        if not row[name] <= tolerance:
            return f"{name} differs by {row[name]:.1e}"
    reasons = []
    for name, measured in row["formats"].items():
        if "error" in measured:
            reasons.append(f"{name}: {measured['error']}")
        elif not measured["median"] <= FORMAT_TOLERANCE:
            reasons.append(f"{name} differs by {measured['median']:.1e} in the median image")
    return "; ".join(reasons)
