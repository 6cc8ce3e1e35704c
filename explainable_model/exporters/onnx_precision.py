"""ONNX in float16 or int8, with inputs and outputs in float32."""

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
from explainable_model.explanation import CLASS_IDX, LOGITS, PREDICTED, Progress
from explainable_model.exporters.onnx import name_companion, open_
from explainable_model.telemetry import import_onnxruntime
from explainable_model.verify.agreement import (
    SAME_CLASS,
    SAME_NUMBER,
    Agreement,
    is_number,
    measure_agreement,
    require_agreement,
)

QUANTIZED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool", "AveragePool")
PRODUCTS = ("Conv", "Gemm", "MatMul")  # the first of them reads the prepared image
EXACT_CONVOLUTIONS = 3  # the first convolutions stay float32: their channels differ most in range, and they cost least
EXPLANATION = "explanation/"  # the prefix of the nodes that make the map of the gradients


def reduce_precision(
    path: Path,
    metadata: Metadata,
    precision: Precision,
    images: Sequence[Array],
    *,
    photos: bool,
    progress: Progress | None = None,
) -> Agreement:
    """Rewrite an artifact in less precision, compare it with the original, and record the agreement in its metadata.

    ``float16`` converts weights, activations and gradients; the map is computed from them in float32.

    ``int8`` quantizes the convolutions and products that the logits depend on (QDQ). Weights have 7 bits per channel,
    so that no instruction overflows. Three parts stay float32: the first ``EXACT_CONVOLUTIONS``, the layers whose
    weights the gradient reads too, and gradients and map.

    Args:
        path: the artifact in float32, which is replaced.
        metadata: the artifact's metadata.
        precision: the new precision.
        images: batches to calibrate and to compare with.
        photos: whether the images are the user's.
        progress: called after each image.

    Raises:
        InputError: the artifact is not in float32, takes other inputs besides the image, or is too large.
        VerificationError: the artifact answers differently in this precision.
    """
    import onnx

    _check_artifact(path, metadata, precision)
    full, _ = open_(path, None)
    model = onnx.load(path)
    with _quiet(), contextlib.redirect_stdout(io.StringIO()):  # onnxruntime prints while it calibrates
        to_float16 = precision == "float16"
        reduced = _convert_to_float16(model) if to_float16 else _quantize(model, metadata, images, progress)
    onnx.save(reduced, path)
    runner, _ = open_(path, None)
    shape = [metadata.batch or 1, *(int(n or 1) for n in metadata.class_idx_shape[1:])]
    agreement = measure_agreement(
        full,
        runner,
        images,
        shape,
        photos=photos,
        kind=metadata.output_kind,
        threshold=metadata.threshold,
        progress=progress,
    )
    of_number = is_number(metadata.output_kind, metadata.classes)
    require_agreement(agreement, precision, metadata.class_names, SAME_NUMBER if of_number else SAME_CLASS)
    _record_precision(reduced, path, metadata, precision, agreement, runner)
    return agreement


def _check_artifact(path: Path, metadata: Metadata, precision: str) -> None:
    problem = ""
    if metadata.dtype != "float32" or metadata.precision != "float32":
        problem = f"the network computes in {metadata.precision}; give network.float() and a float32 image"
    elif metadata.extra_inputs:
        problem = "the network takes more inputs than the image, for which there are no photos"
    elif name_companion(path).exists():
        problem = "the network has more than 2 GiB of weights; convert it with onnxruntime.quantization itself"
    if problem:
        raise InputError(f"The artifact cannot be written in {precision}: {problem}.")


def _convert_to_float16(model: Any) -> Any:
    import_onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _name_nodes(model)
    exact = [node.name for node in model.graph.node if node.name.startswith(EXPLANATION)]
    return _tidy(convert_float_to_float16(model, keep_io_types=True, node_block_list=exact))


def _tidy(model: Any) -> Any:
    """Put each node behind those that it reads, and describe values by their new types, as ONNX demands.

    The converter appends its conversions at the end, and leaves descriptions of values as they were.
    """
    import onnx
    import onnx_ir

    del model.graph.value_info[:]
    tidied = onnx_ir.from_proto(model)
    tidied.graph.sort()
    return onnx.shape_inference.infer_shapes(onnx_ir.to_proto(tidied))


def _name_nodes(model: Any) -> None:
    """Name every node, since the converter leaves nodes without a name as they are."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"


def _quantize(model: Any, metadata: Metadata, images: Sequence[Array], progress: Progress | None) -> Any:
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    nodes = _find_nodes_to_quantize(model)
    add_pre_process_metadata(model)  # the preprocessing is done: batch norm is folded, and every shape is known
    with tempfile.TemporaryDirectory() as folder, _explained_ranges():
        file = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            file,
            _make_reader(images, metadata, progress),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.Percentile,  # one bright pixel must not widen a range for all
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return onnx.load(file)


@contextlib.contextmanager
def _explained_ranges() -> Iterator[None]:
    """NumPy refuses a histogram of values that hardly differ, in words of its own."""
    try:
        yield
    except ValueError as error:
        if "bins" not in str(error):
            raise
        raise InputError(
            "The images to calibrate with hardly differ, so the activations have no range that could be measured. Give "
            "images as the network takes them, after scaling and normalization."
        ) from error


def _find_nodes_to_quantize(model: Any) -> list[str]:
    """The names of the nodes that the logits depend on and that may be quantized.

    Left out are the nodes that prepare the image, the first convolutions, and layers whose weights the gradient reads.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    weights = {value.name for value in model.graph.initializer}
    readers: dict[str, int] = {}
    for node in model.graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    reads_own_weights: dict[str, bool] = {}
    stack = [LOGITS]
    while stack:
        node = producers.get(stack.pop())
        if node is not None and node.name not in reads_own_weights:
            reads_own_weights[node.name] = all(readers[name] == 1 for name in node.input if name in weights)
            stack += node.input
    order = [node for node in model.graph.node if reads_own_weights.get(node.name)]
    order = list(itertools.dropwhile(lambda node: node.op_type not in PRODUCTS, order))
    exact = [node.name for node in order if node.op_type == "Conv"][:EXACT_CONVOLUTIONS]
    return [node.name for node in order if node.name not in exact]


def _make_reader(images: Sequence[Array], metadata: Metadata, progress: Progress | None) -> Any:
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
            return {metadata.graph_inputs[0]: image, CLASS_IDX: np.full(shape, PREDICTED, np.int64)}

    return Reader()


def _record_precision(
    model: Any, path: Path, metadata: Metadata, precision: Precision, agreement: Agreement, runner: Runner
) -> None:
    import onnx

    new_metadata = replace(
        metadata,
        precision=precision,
        agreement=agreement.to_dict(),
        reference=record_reference(metadata, runner, precision),
    )
    properties = {prop.key: prop.value for prop in model.metadata_props}
    onnx.helper.set_model_props(model, {**properties, METADATA_KEY: new_metadata.to_json()})
    onnx.save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the converters' warnings about rounded values, since the artifact is compared afterwards."""
    import warnings

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="the float32 number .* will be truncated to")
            yield
    finally:
        logging.disable(before)
