"""OpenVINO's own format: a ``.xml`` file with the graph, and a ``.bin`` file beside it with the weights."""

import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.artifact.metadata import METADATA_KEY, parse_metadata
from explainable_model.artifact.outputs import Declared, check_declared
from explainable_model.artifact.runner import Array, Runner
from explainable_model.errors import ArtifactError
from explainable_model.explanation import input_names, output_names
from explainable_model.exporters import onnx
from explainable_model.exporters.format import Format, foreign_file
from explainable_model.exporters.guard.openvino_file import read_openvino
from explainable_model.exporters.guard.openvino_graph import check_call, check_sizes
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless
from explainable_model.exporters.signal_stack import kept_signal_stack
from explainable_model.telemetry import import_openvino

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel

TRANSPOSED = {"ConvolutionBackpropData": [1, 0], "GroupConvolutionBackpropData": [0, 2, 1]}
"""The transposed convolutions, and the order that swaps the two channel axes of their weights."""

VIEWS = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Convert")
"""Operators that OpenVINO may fold into a product that reads a constant through them."""

PILLOW = {"linear_onnx": "bilinear_pillow", "linear": "bilinear_pillow", "cubic": "bicubic_pillow"}
"""OpenVINO's antialiased mode for each mode that it translates ONNX's resizing to."""


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Translate by way of ONNX; write ``<name>.xml``, with the metadata in its ``rt_info``, and ``<name>.bin``."""
    openvino = _import_openvino(f"Exporting {path.name}")
    if lowered.precision == "float64":
        raise ArtifactError("OpenVINO computes in float32 at most: export network.float() with a float32 image.")
    with tempfile.TemporaryDirectory() as folder:
        translated = Path(folder) / "network.onnx"
        onnx.write(lowered, translated, metadata)
        model = openvino.Core().read_model(translated)
        _separate_weights_of_transposed_convolutions(model)
        _separate_weights_of_sums(model)
        _separate_weights_of_square_products(model)
        _restore_antialiasing(model)
        model.set_rt_info(metadata, [METADATA_KEY])
        try:
            openvino.save_model(model, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise OSError(_find_reason(error)) from error


def _separate_weights_of_transposed_convolutions(model: Any) -> None:
    """Store the weights of transposed convolutions with two axes swapped, and swap them back in the graph.

    The gradient of a convolution is a transposed convolution with the same weights. OpenVINO packs weights for an
    operator and finds the packed weights by their address. If both operators read one constant, the second reads what
    was packed for the first, and the map is wrong without an error. A plain copy of the weights does not help, since
    OpenVINO stores equal constants once when it writes the file.
    """
    from openvino import opset13 as operators

    for node in model.get_ordered_ops():
        swap = TRANSPOSED.get(node.get_type_name())
        weights = node.input_value(1).get_node() if swap else None
        if swap is None or weights is None or weights.get_type_name() != "Constant":
            continue
        axes = [*swap, *range(len(swap), weights.data.ndim)]  # swaps forth and back
        name = f"{weights.get_friendly_name()}_swapped"
        swapped = operators.constant(weights.data.transpose(axes).copy(), name=name)
        node.input(1).replace_source_output(operators.transpose(swapped, axes).output(0))
    model.validate_nodes_and_infer_types()


def _separate_weights_of_sums(model: Any) -> None:
    """Give every Einsum weights of its own where another operator reads the same constant.

    OpenVINO makes products of it when it compiles the file, after all that is done here. The copies have other lengths,
    since it stores equal constants once.
    """
    from openvino import opset13 as operators

    copies = 0
    for node in model.get_ordered_ops():
        for value in node.inputs() if node.get_type_name() == "Einsum" else []:
            constant = value.get_source_output().get_node()
            if constant.get_type_name() != "Constant" or len(constant.output(0).get_target_inputs()) == 1:
                continue
            copies += 1
            longer = np.pad(constant.data.ravel(), (0, copies))
            own = operators.constant(longer, name=f"{constant.get_friendly_name()}_{copies}")
            cut = operators.slice(own, *(np.array([n], np.int64) for n in (0, constant.data.size, 1)))
            value.replace_source_output(operators.reshape(cut, list(constant.data.shape), False).output(0))
    model.validate_nodes_and_infer_types()


def _separate_weights_of_square_products(model: Any) -> None:
    """Give a product weights of its own where another product reads the same constant in another order.

    The gradient of a linear layer multiplies by the layer's weights, and the layer by their transpose. OpenVINO folds
    transposes and reshapes of the weights into the products, and finds what it has packed by address and shape. Two
    orders of one shape, as of a square matrix, are therefore taken for one another.
    """
    products: dict[str, list[tuple[Any, list[Any]]]] = {}
    for node in model.get_ordered_ops():
        views = _find_views_of_constant(node) if node.get_type_name() == "MatMul" else []
        if views:
            products.setdefault(views[-1].get_name(), []).append((node, views))
    for readers in products.values():
        first_orders: dict[tuple[int, int], Array] = {}
        for node, views in readers if len(readers) > 1 else []:
            shape = _read_shape(node)
            if shape not in first_orders and sum(_read_shape(other) == shape for other, _ in readers) == 1:
                continue
            order = _read_order(node, views).ravel()
            if not np.array_equal(order, first_orders.setdefault(shape, order)):
                _read_own_copy(node, views)
    model.validate_nodes_and_infer_types()


def _find_views_of_constant(product: Any) -> list[Any]:
    """The nodes from a product's second input back to a constant, which comes last; empty where there is none."""
    views, node = [], product.input_value(1).get_node()
    while node.get_type_name() in VIEWS and node.get_output_partial_shape(0).is_static:
        views.append(node)
        node = node.input_value(0).get_node()
    is_matrix = len(product.input_value(1).get_partial_shape()) > 1
    return [*views, node] if node.get_type_name() == "Constant" and is_matrix else []


def _read_shape(product: Any) -> tuple[int, int]:
    """Rows and columns of the second factor as the product multiplies by it."""
    *_, rows, columns = product.input_value(1).get_shape()
    return (columns, rows) if product.get_attributes()["transpose_b"] else (rows, columns)


def _read_order(product: Any, views: list[Any]) -> Array:
    """The positions of the constant's values in the second factor, in the order that the product reads them."""
    constant = views[-1]
    positions = _apply_views(views, np.arange(constant.data.size, dtype=np.int32).reshape(constant.data.shape))
    return positions.swapaxes(-1, -2) if product.get_attributes()["transpose_b"] else positions


def _apply_views(views: list[Any], values: Array) -> Array:
    for view in reversed(views[:-1]):
        if view.get_type_name() == "Transpose":
            values = values.transpose(view.input_value(1).get_node().data)
        else:
            values = values.reshape(view.get_output_shape(0))
    return values


def _read_own_copy(product: Any, views: list[Any]) -> None:
    """Let the product read a copy of the constant in another order, since OpenVINO stores equal constants once."""
    from openvino import opset13 as operators

    constant = views[-1]
    factor = _apply_views(views, constant.data)
    axes = [*range(factor.ndim - 2), factor.ndim - 1, factor.ndim - 2]
    as_stored = np.array_equal(factor.ravel(), constant.data.ravel())
    copy = factor.transpose(axes) if as_stored else factor
    own = operators.constant(np.ascontiguousarray(copy), name=f"{product.get_friendly_name()}_weights")
    read = operators.transpose(own, axes) if as_stored else own
    product.input(1).replace_source_output(read.output(0))


def _restore_antialiasing(model: Any) -> None:
    """Replace antialiased resizing, which OpenVINO translates from ONNX without the antialiasing and without a word."""
    from openvino import opset13 as operators

    axes = operators.constant([2, 3], dtype="int64")
    for node in model.get_ordered_ops():
        attributes = node.get_attributes() if node.get_type_name() == "Interpolate" else {}
        mode = PILLOW.get(attributes.get("mode", ""))
        if not attributes.get("antialias") or mode is None:
            continue
        size = operators.gather(node.input_value(1), axes, operators.constant(0, dtype="int64"))
        resized = operators.interpolate(node.input_value(0), size, mode, "sizes", axes=axes, cube_coeff=-0.5)
        node.output(0).replace(resized.output(0))
    model.validate_nodes_and_infer_types()


def open_(path: Path, threads: int | None) -> tuple[Runner, str]:
    """Run with OpenVINO on the CPU, in the precision of the file, with one inference request for each thread."""
    return _open(path, threads, trusted=False)


def open_trusted(path: Path, threads: int | None) -> tuple[Runner, str]:
    """As ``open_``, for a file of one's own, whatever memory it takes."""
    return _open(path, threads, trusted=True)


def _open(path: Path, threads: int | None, *, trusted: bool) -> tuple[Runner, str]:
    text = read_metadata(path)
    metadata = parse_metadata(text, path)
    openvino = _import_openvino(str(path))
    core = openvino.Core()
    model = _read(core, path)
    try:
        if not trusted:
            check_sizes(model, name_companion(path).stat().st_size)
            check_call(model, metadata.input_shapes)
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal
    config = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        with kept_signal_stack():
            compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise ArtifactError(f"OpenVINO cannot compile {path.name}: {_find_reason(error)}") from error
    check_declared(map(_declare, model.inputs), map(_declare, model.outputs), metadata, path.name)
    of_thread = threading.local()

    def run(*arrays: Array) -> Sequence[Array]:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        outputs = of_thread.request.infer(dict(zip(input_names(len(arrays) - 2), arrays, strict=True)))
        return [outputs[name] for name in output_names(metadata.look is not None)]

    return run, text


def _declare(port: Any) -> Declared:
    sizes = port.get_partial_shape()
    shape = None if sizes.rank.is_dynamic else [size.get_length() if size.is_static else None for size in sizes]
    dtype = port.get_element_type().to_dtype().name
    return Declared(port.get_any_name(), dtype, shape)


def read_metadata(path: Path) -> str:
    """The metadata text in the model's ``rt_info``; OpenVINO is not needed."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(f"{path} needs {weights.name} beside it, which holds its weights.")
    try:
        metadata = read_openvino(path, weights)
    except Refusal as refusal:
        raise not_shown_harmless(path, refusal) from refusal
    if metadata is None:
        raise foreign_file(path)
    return metadata


def name_companion(path: Path) -> Path:
    """The file that holds the weights."""
    return path.with_suffix(".bin")


def _read(core: Any, path: Path) -> Any:
    weights = name_companion(path)
    try:
        return core.read_model(path, weights)
    except RuntimeError as error:
        raise ArtifactError(
            f"{path} is damaged or not a model OpenVINO can read, or {weights.name} is another's: {_find_reason(error)}"
        ) from error


def _import_openvino(purpose: str) -> Any:
    try:
        return import_openvino()
    except ImportError as error:
        raise OPENVINO.missing_runtime(purpose) from error


def _find_reason(error: BaseException) -> str:
    """The reason in an error of OpenVINO, whose other lines name places in OpenVINO's sources."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(("Exception from", "Check '"))), "unknown reason")


OPENVINO = Format(
    name="openvino",
    suffixes=(".xml",),
    runtime="OpenVINO",
    packages=("openvino", "onnx", "onnxscript"),
    extra="openvino",
    write=write,
    open=open_,
    open_trusted=open_trusted,
    read_metadata=read_metadata,
    companion=name_companion,
)
