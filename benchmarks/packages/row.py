"""Measure one row of the table of packages: what is explained, and how exactly."""

import re
import tempfile
import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.artifacts import write_unverified
from benchmarks.coverage_row import (
    BATCHES,
    FORMATS,
    TABLE,
    choose_lively_classes,
    compare_maps,
    describe_error,
    explain_plain_failure,
)
from benchmarks.packages.case import Case, build
from benchmarks.packages.reference import compute_reference_gradients
from explainable_model import ExplainableModel, find_layers, lower, targets
from explainable_model.errors import ExplainableModelError, ExplainableModelWarning, LoweringError

DEAD = 1e-4  # a change of the map, relative to the map, that is rounding
CANDIDATES = 4  # the class with the largest map among so many is explained

Row = dict[str, Any]


def measure(case: Case, quick: bool = False) -> Row:
    """Measure a case in one thread, in PyTorch alone if it is quick; the row has what is explained, or the error."""
    torch.set_num_threads(1)
    started = time.process_time()
    row: Row = {"network": case.key}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = build(case)
        except Exception as error:
            return {**row, "stage": "build", "error": describe_error(error)}
        try:
            row.update(_explain(case, model))
            if case.refused:  # a wrong row already
                return row
            row.update(_compare_exactly(case, model, row["layer"]))
            if quick:
                row["quick"] = True
            else:
                row.update(_lower_and_export(case, model, row["layer"]))
        except Exception as error:  # the row says why, and the next one is measured
            row.update(stage="eager", error=_describe(error), ours=isinstance(error, ExplainableModelError))
    ours = [str(w.message) for w in caught if issubclass(w.category, ExplainableModelWarning)]
    row["warnings"] = list(dict.fromkeys(ours))
    row["cpu_seconds"] = round(time.process_time() - started, 1)
    return row


def _describe(error: BaseException) -> str:
    """The type and the whole message of an error of this library, which may need its further lines."""
    if isinstance(error, ExplainableModelError):
        return f"{type(error).__name__}: {error}"
    return describe_error(error)


def _explain(case: Case, model: nn.Module) -> Row:
    """What is explained by default: the layer, how its output is read, and whether that is where the image has it."""
    image, inputs = case.make_images(2, 1), case.make_inputs(2, 1)
    explainable = ExplainableModel(model, **case.arguments)
    explanation = explainable(image, None, *inputs)
    layer = str(explainable.target_layer)
    activations = explainable.attribute(image, None, *inputs).activations
    return {
        "layer": layer,
        "type": type(model.get_submodule(layer)).__name__,
        "reading": _name_reading(case, model, layer, image, activations),
        "grid": list(activations.shape[2:]),
        "classes": int(explanation.logits.shape[1]) if explanation.logits.ndim > 1 else 1,
        "logits": list(explanation.logits.shape),
        "located": None if case.mixes else _count_located(case, explainable),
    }


def _name_reading(case: Case, model: nn.Module, layer: str, image: Tensor, activations: Tensor) -> str:
    """``grid``, ``tokens`` or ``frames``: how the output of the layer becomes a map."""
    frames = case.arguments.get("frames")
    if case.inputs is None:
        found = {entry.name: entry for entry in find_layers(model, image, frames=frames)}
        if layer in found:
            kind = {"channels_first": "grid", "channels_last": "grid, channels last"}.get(found[layer].kind, "tokens")
            folded = "frames" if hasattr(found[layer].layout, "frames") else ""
            return ", ".join(word for word in (folded, kind) if word)
    return "grid" if activations.ndim == image.ndim else "frames"


def _count_located(case: Case, explainable: ExplainableModel) -> list[int] | None:
    """In how many corners of the image a change there changes the layer's map most in the same corner.

    A grid of tokens that is read with a wrong width, or channels that are taken for a direction, fails here.
    """
    base, inputs = case.make_images(1, 3), case.make_inputs(1, 3)
    frames = case.arguments.get("frames")
    axes = [axis for axis in range(1, base.ndim) if axis != frames]
    axes = [frames, *axes[1:]] if frames is not None else axes[1:]
    corners = list(product((0, 1), repeat=len(axes)))
    changed = base.repeat(1 + len(corners), *[1] * (base.ndim - 1))
    for number, corner in enumerate(corners, 1):
        patch: list[Any] = [number, *[slice(None)] * (base.ndim - 1)]
        for axis, side in zip(axes, corner, strict=True):
            length = base.shape[axis]
            begin = (length * (1 + 4 * side)) // 8
            patch[axis] = slice(begin, max(begin + 1, (length * (3 + 4 * side)) // 8))
        where = tuple(patch)
        changed[where] += 3 * torch.randn(changed[where].shape, generator=torch.Generator().manual_seed(4))
    same = [value.repeat(len(changed), *[1] * (value.ndim - 1)) for value in inputs]
    before, *after = explainable.attribute(changed, None, *same).activations
    if min(float((moved - before).abs().sum()) for moved in after) < DEAD * float(before.abs().sum()):
        return None  # the signal of a deep untrained network may die on the way
    right = sum(
        _is_in_corner((moved - before).abs().sum(0), corner) for moved, corner in zip(after, corners, strict=True)
    )
    return [right, len(corners)]


def _is_in_corner(moved: Tensor, corner: tuple[int, ...]) -> bool:
    """Whether the sum of the changes in the corner is larger than in any other corner of a map."""
    sums = {}
    for other in product((0, 1), repeat=moved.ndim):
        part = moved
        for axis, side in enumerate(other):
            length = moved.shape[axis]
            half = (length + 1) // 2
            part = part.narrow(axis, 0 if side == 0 else length - half, half)
        sums[other] = float(part.sum())
    return sums[corner] >= max(sums.values()) * (1 - 1e-9)


def _compare_exactly(case: Case, model: nn.Module, layer: str) -> Row:
    """The gradient of the score in float64 against plain autograd, which uses none of this library's code."""
    double = model.double()
    try:
        explainable = ExplainableModel(double, layer, normalize=False, upsample=False, **_without_layer(case))
        image, inputs = case.make_images(2, 2, torch.float64), case.make_inputs(2, 2, torch.float64)
        classes = choose_lively_classes(explainable, image, count_classes(explainable, image, inputs), *inputs)
        got = explainable.attribute(image, classes, *inputs)
        wanted = compute_reference_gradients(case, double, layer, image, inputs, classes)
        row: Row = {"map": float(explainable(image, classes, *inputs).cam.abs().max())}
        row["reference"] = float((wanted - got.gradients).abs().max() / wanted.abs().max().clamp_min(1e-300))
        return row
    finally:
        model.float()


def _without_layer(case: Case) -> dict[str, Any]:
    return {key: value for key, value in case.arguments.items() if key != "target_layer"}


def count_classes(explainable: ExplainableModel, image: Tensor, inputs: tuple[Tensor, ...]) -> int:
    """How many classes are tried for a map that is not zero; a target of the user's has one."""
    if not isinstance(explainable.plan.target, (targets.ClassScore, targets.Segmentation)):
        return 1
    logits = explainable(image, None, *inputs).logits
    return min(CANDIDATES, logits.shape[1] if logits.ndim > 1 else 1)


def _lower_and_export(case: Case, model: nn.Module, layer: str) -> Row:
    """The lowered graph in float64 and its artifacts in float32, at other batch sizes than the example's."""
    try:
        row = _compare_lowered(case, model, layer)
        row["formats"], row["kind"] = _compare_formats(case, model, layer)
        return row
    except LoweringError as error:
        return {"stage": "artifact", "error": _describe(error), "ours": True}


def _compare_lowered(case: Case, model: nn.Module, layer: str) -> Row:
    double = model.double()
    try:
        explainable = ExplainableModel(double, layer, normalize=False, upsample=False, **_without_layer(case))
        image, inputs = case.make_images(2, 1, torch.float64), case.make_inputs(2, 1, torch.float64)
        started = time.process_time()
        lowered = lower(explainable, image, *inputs)
        seconds = time.process_time() - started
        batch = 3 if lowered.dynamic_batch else 2
        image, inputs = case.make_images(batch, 2, torch.float64), case.make_inputs(batch, 2, torch.float64)
        classes = choose_lively_classes(explainable, image, count_classes(explainable, image, inputs), *inputs)
        eager, got = explainable(image, classes, *inputs), lowered(image, classes, *inputs)
        nodes = lowered.graph_module.graph.nodes
        return {
            "dynamic_batch": lowered.dynamic_batch,
            "lowered": float((got.cam - eager.cam).abs().max()) / max(float(eager.cam.abs().max()), 1e-300),
            "lower_seconds": round(seconds, 2),
            "operators": sum(node.op == "call_function" for node in nodes),
        }
    finally:
        model.float()


def _compare_formats(case: Case, model: nn.Module, layer: str) -> tuple[dict[str, Row], str]:
    """The median and the largest difference of each format's maps, and the kind of the output."""
    explainable = ExplainableModel(model, layer, **_without_layer(case))
    lowered = lower(explainable, case.make_images(2, 1), *case.make_inputs(2, 1))
    batches = BATCHES if lowered.dynamic_batch else (2,) * len(BATCHES)
    cases = []
    for seed, batch in enumerate(batches, 10):
        image, inputs = case.make_images(batch, seed), case.make_inputs(batch, seed)
        classes = choose_lively_classes(explainable, image, count_classes(explainable, image, inputs), *inputs)
        cases.append((image, classes, *inputs))
    wanted = [explainable(*each).cam for each in cases]
    found: dict[str, Row] = {}
    for name in FORMATS:
        started = time.process_time()
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"network{TABLE[name].suffixes[0]}"
                write_unverified(lowered, name, path)
                seconds = time.process_time() - started
                runner, _ = TABLE[name].open(path, 1)
                got = [runner(*map(Tensor.numpy, each))[2] for each in cases]
            found[name] = {**compare_maps(wanted, got), "export_seconds": round(seconds, 2)}
        except Exception as error:
            found[name] = {"error": describe_error(error)}
            plain = explain_plain_failure(model, cases[0][0]) if name == "onnx" and not case.inputs else ""
            if plain:
                found[name] = {"error": f"the plain network cannot be exported to ONNX: {plain}"}
    return found, lowered.output_kind


def says(words: str, row: Row) -> bool:
    """Whether the error of a row is this library's own and has the words."""
    return bool(row.get("ours")) and re.search(words, row["error"], re.S | re.I) is not None
