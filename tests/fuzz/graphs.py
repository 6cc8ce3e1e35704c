"""Compare the lowered graph and the artifacts with eager explanations."""

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainable_model import ExplainableModel, LoweredModel, export, load, lower
from explainable_model.artifact.tolerances import FLIP_CORRELATION, NOISE_FACTOR, tolerance_of
from explainable_model.errors import StaticBatchWarning, VerificationError
from tests.fuzz.cases import Case, Wrong, count_classes, draw_classes, explainable_of


def check_lowered(case: Case, graphs: list[LoweredModel]) -> str:
    """Compare the lowered graph in float64 with eager, on other images and at another batch size."""
    explainable = explainable_of(case, case.network.module, case.post)
    inputs = case.inputs(case.batch, case.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lowered = lower(explainable, inputs[0], *inputs[1:])
    graphs.append(lowered)
    verdict = compare(case, explainable, lambda *arrays: lowered(*map(torch.from_numpy, arrays)), "float64", lowered)
    is_static = [str(row.message) for row in caught if issubclass(row.category, StaticBatchWarning)]
    if is_static:
        raise Wrong(f"static batch: {' '.join(is_static[0].split())[:400]}")
    return verdict


def check_artifact(case: Case, name: str, lowered: LoweredModel) -> str:
    """Write an artifact, load it and compare it with eager; ONNX in float32, whose kernels ONNX Runtime has."""
    explainable = explainable_of(case, case.network.module, case.post)
    if name == "onnx":
        inputs = [narrow(tensor) for tensor in case.inputs(case.batch, case.seed)]
        module = copy.deepcopy(case.network.module).float()
        lowered = lower(explainable_of(case, module, case.post), inputs[0], *inputs[1:])
    suffix = {"onnx": ".onnx", "torchscript": ".ts"}[name]
    with tempfile.TemporaryDirectory() as folder:
        try:
            session = load(export(lowered, Path(folder) / f"a{suffix}"), threads=1)
        except VerificationError as error:
            if "every map of the network is zero" in str(error) and is_blank(case, explainable):
                return "refused: every map is zero"
            raise
        return compare(case, explainable, session, "float32" if name == "onnx" else "float64", lowered)


def is_blank(case: Case, explainable: ExplainableModel) -> bool:
    """Whether the maps of the predicted class and of the next three are zero."""
    inputs = case.inputs(case.batch, case.seed)
    answer = explainable(inputs[0], None, *inputs[1:])
    count = count_classes(case)
    if case.top_k is not None or count == 1:
        return not bool(answer.cam.any())
    classes = [(answer.class_idx + step) % count for step in range(4)]
    return not any(bool(explainable(inputs[0], idx, *inputs[1:]).cam.any()) for idx in classes)


def narrow(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.float64 else tensor


def compare(
    case: Case, explainable: ExplainableModel, run: Callable[..., Any], dtype: str, lowered: LoweredModel
) -> str:
    """Compare a computation with the eager one on new images.

    Raises:
        Wrong: logits, classes or maps differ by more than the rounding of ``dtype`` explains.
    """
    batch = case.other if lowered.dynamic_batch else case.batch
    inputs, tolerance = case.inputs(batch, case.seed + 1000), tolerance_of(dtype)
    if dtype == "float32":
        inputs = [tensor.float().double() if tensor.is_floating_point() else tensor for tensor in inputs]
    asked = draw_classes(case, batch)
    want = explainable(inputs[0], asked, *inputs[1:])
    arrays = [(narrow(tensor) if dtype == "float32" else tensor).numpy() for tensor in inputs]
    got = run(arrays[0], want.class_idx.numpy(), *arrays[1:])
    off = float(np.abs(np.asarray(got[0]) - want.logits.numpy()).max() / max(float(want.logits.abs().max()), 1e-12))
    if tuple(got[0].shape) != tuple(want.logits.shape) or not off <= tolerance.logits:
        raise Wrong(f"logits differ by {off:.1e}")
    verdict = "equal"
    for n in range(batch):
        cam, exact = np.asarray(got[2][n], np.float64), want.cam[n].numpy()
        difference = _difference(cam, exact)
        if difference <= tolerance.cam:
            continue
        noise = _noise(case, explainable, inputs, want, tolerance.rounding)[n]
        if difference <= max(tolerance.cam, NOISE_FACTOR * noise):
            continue
        similar = np.corrcoef(cam.ravel(), exact.ravel())[0, 1] if np.isfinite(cam).all() else 0.0
        words = f"map {n} differs by {difference:.1e}, noise {noise:.1e}, correlation {similar:.4f}"
        if dtype == "float64" or not similar >= FLIP_CORRELATION:
            raise Wrong(words)
        verdict = "flipped"
    return verdict


def _difference(cam: Any, exact: Any) -> float:
    if cam.shape != exact.shape:
        return float("inf")
    off = float(np.abs(cam - exact).max())
    return (off / (float(np.abs(exact).max()) or 1.0)) if np.isfinite(off) else float("inf")


def _noise(
    case: Case, explainable: ExplainableModel, inputs: Sequence[Tensor], want: Any, rounding: float
) -> list[float]:
    """How much each map changes when the image and every weight change by one rounding."""
    noise = [0.0] * len(inputs[0])
    generator = torch.Generator().manual_seed(case.seed)

    def rounded(tensor: Tensor) -> Tensor:
        return tensor * (1 + rounding * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))

    for _ in range(4):
        module = copy.deepcopy(case.network.module)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(rounded(parameter))
        near = explainable_of(case, module, case.post)(rounded(inputs[0]), want.class_idx, *inputs[1:])
        noise = [max(a, _difference(b.numpy(), c.numpy())) for a, b, c in zip(noise, near.cam, want.cam, strict=True)]
    return noise
