"""ONNX in float16, and in 8-bit integers where the network is run; inputs and outputs stay float32."""

import contextlib
import io
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.artifact.metadata import METADATA_KEY, Metadata, Precision
from explainable_model.artifact.reference import record_reference
from explainable_model.artifact.runner import Array, Runner
from explainable_model.errors import InputError
from explainable_model.explanation import CLASS_IDX, IMAGE, LOGITS, PREDICTED
from explainable_model.exporters.onnx import open_
from explainable_model.verify.agreement import Agreement, Progress, measure_agreement, require_agreement

QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool")
PRODUCTS = ("Conv", "Gemm", "MatMul")  # the first of them reads the prepared image
EXACT_CONVOLUTIONS = 3  # the first ones: their channels differ most in range, and cost least
EXPLANATION = "explanation/"  # what the names of the nodes after the gradients start with


def reduce_precision(
    path: Path,
    metadata: Metadata,
    precision: Precision,
    images: Sequence[Array],
    *,
    photos: bool,
    progress: Progress | None = None,
) -> Agreement:
    """Rewrite an artifact in less precision, compare both, and record how they agree and what the new one answers.

    ``float16``: weights, activations and gradients; the map is made of them in float32. ``int8``: convolutions
    and products on the way to the logits (QDQ, weights per channel of 7 bits, so that no instruction overflows), but
    for the first ``EXACT_CONVOLUTIONS`` and layers whose weight the gradient reads too; gradients and map stay float32.

    Args:
        path: the artifact in float32, which is replaced.
        metadata: the artifact's.
        precision: what to make.
        images: batches to calibrate and compare with.
        photos: whether they are the user's.
        progress: told how many images are done.

    Raises:
        InputError: the artifact is not in float32, takes more than an image, or is too large.
        VerificationError: it says something else in this precision.
    """
    import onnx

    _check(path, metadata, precision)
    full, _ = open_(path, None)
    model = onnx.load(path)
    with _quiet(), contextlib.redirect_stdout(io.StringIO()):  # the calibration prints
        reduced = _in_float16(model) if precision == "float16" else _in_int8(model, metadata, images, progress)
    onnx.save(reduced, path)
    runner, _ = open_(path, None)
    shape = [metadata.batch or 1, *(int(n or 1) for n in metadata.class_idx_shape[1:])]
    agreement = measure_agreement(full, runner, images, shape, photos=photos, progress=progress)
    require_agreement(agreement, precision)
    _describe(reduced, path, metadata, precision, agreement, runner)
    return agreement


def _check(path: Path, metadata: Metadata, precision: str) -> None:
    problem = ""
    if metadata.dtype != "float32" or metadata.precision != "float32":
        problem = f"the network computes in {metadata.precision}; give network.float() and a float32 image"
    elif metadata.extra_inputs:
        problem = "the network takes more inputs than the image, for which there are no photos"
    elif path.with_name(f"{path.name}.data").exists():
        problem = "the network has more than 2 GiB of weights; convert it with onnxruntime.quantization itself"
    if problem:
        raise InputError(f"The artifact cannot be written in {precision}: {problem}.")


def _in_float16(model: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _give_constants_names(model)
    exact = [node.name for node in model.graph.node if node.name.startswith(EXPLANATION)]
    return convert_float_to_float16(model, keep_io_types=True, node_block_list=exact)


def _give_constants_names(model: Any) -> None:
    """The converter takes a node without a name for one that is to stay as it is."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"


def _in_int8(model: Any, metadata: Metadata, images: Sequence[Array], progress: Progress | None) -> Any:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    nodes = _on_the_way_to_the_logits(model)
    add_pre_process_metadata(model)  # batch norm is folded already, and every shape is there
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            made,
            _reader(images, metadata, progress),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.Percentile,  # one bright pixel must not widen a range for all
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return onnx.load(made)


def _on_the_way_to_the_logits(model: Any) -> list[str]:
    """The nodes that the prediction depends on, but for what prepares the image, the first convolutions and those
    whose weight the gradient reads as well.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    weights = {value.name for value in model.graph.initializer}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    found: dict[str, bool] = {}
    stack = [LOGITS]
    while stack:
        node = producers.get(stack.pop())
        if node is not None and node.name not in found:
            found[node.name] = all(readers[name] == 1 for name in node.input if name in weights)
            stack += node.input
    order = [node for node in model.graph.node if found.get(node.name)]
    order = list(itertools.dropwhile(lambda node: node.op_type not in PRODUCTS, order))
    exact = [node.name for node in order if node.op_type == "Conv"][:EXACT_CONVOLUTIONS]
    return [node.name for node in order if node.name not in exact]


def _reader(images: Sequence[Array], metadata: Metadata, progress: Progress | None) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._done = 0

        def get_next(self) -> dict[str, Array] | None:
            if progress is not None and self._done:
                progress("calibrating", self._done, len(images))
            if self._done == len(images):
                return None
            image = images[self._done]
            self._done += 1
            shape = [len(image), *(int(n or 1) for n in metadata.class_idx_shape[1:])]
            return {IMAGE: image, CLASS_IDX: np.full(shape, PREDICTED, np.int64)}

    return Reader()


def _describe(
    model: Any, path: Path, metadata: Metadata, precision: Precision, agreement: Agreement, runner: Runner
) -> None:
    import onnx

    described = replace(
        metadata,
        precision=precision,
        agreement=agreement.to_dict(),
        reference=record_reference(metadata, runner, precision),
    )
    properties = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**properties, METADATA_KEY: described.to_json()})
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' words about values that were rounded; what matters is compared."""
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the float32 number .* will be truncated to")
            yield
    finally:
        logging.disable(before)
