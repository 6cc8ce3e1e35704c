"""Write and open the plain network in each runtime, as the runtime's documentation says: the ratios' denominator."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

Array: TypeAlias = NDArray[Any]
Predict: TypeAlias = Callable[[Array], Array]


@dataclass(frozen=True)
class PlainFormat:
    """The functions that write and open the plain network.

    Attributes:
        write: ``(model, image (2, C, H, W), path)``.
        open: ``(path, threads) -> predict``, with ``predict(image) -> logits``.
    """

    write: Callable[["nn.Module", "Tensor", Path], None]
    open: Callable[[Path, int], Predict]


def write_onnx(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """With PyTorch's exporter and an open batch size."""
    from benchmarks.graph_cost import write_plain_onnx

    write_plain_onnx(model, image, path)


def open_onnx(path: Path, threads: int) -> Predict:
    """With ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def predict(image: Array) -> Array:
        logits: Array = session.run(["logits"], {"image": image})[0]
        return logits

    return predict


def write_torchscript(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """Traced and frozen, which folds batch norm."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.freeze(torch.jit.trace(model, image, check_trace=False)).save(str(path))


def open_torchscript(path: Path, threads: int) -> Predict:
    """With ``torch.jit.load``."""
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make_predict(torch.jit.load(str(path)))


def _export(model: "nn.Module", image: "Tensor") -> Any:
    import torch

    with torch.no_grad():
        return torch.export.export(model, (image,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)


def write_pt2(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """``torch.export``'s archive."""
    import torch

    torch.export.save(_export(model, image), path)


def open_pt2(path: Path, threads: int) -> Predict:
    """Run by PyTorch."""
    import torch

    torch.set_num_threads(threads)
    return _make_predict(torch.export.load(path).module())


def write_aotinductor(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """Compiled with its weights frozen into the code."""
    import torch

    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            _export(model, image), package_path=str(path), inductor_configs={"freezing": True}
        )


def open_aotinductor(path: Path, threads: int) -> Predict:
    """With ``aoti_load_package``."""
    import torch

    torch.set_num_threads(threads)
    return _make_predict(torch._inductor.aoti_load_package(str(path)))


def write_openvino(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """From the plain ONNX file, in float32."""
    import openvino

    source = path.with_suffix(".source.onnx")
    write_onnx(model, image, source)
    openvino.save_model(openvino.convert_model(source), path, compress_to_fp16=False)
    source.unlink()


def open_openvino(path: Path, threads: int) -> Predict:
    """On the CPU."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()

    def predict(image: Array) -> Array:
        logits: Array = request.infer({0: image})[0]
        return logits

    return predict


def write_executorch(model: "nn.Module", image: "Tensor", path: Path) -> None:
    """Through XNNPACK, for a batch of one."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with torch.no_grad():
        exported = torch.export.export(model, (image[:1],), strict=False)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    path.write_bytes(program.buffer)


def open_executorch(path: Path, threads: int) -> Predict:
    """With the Python bindings of its runtime."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)  # ExecuTorch has no public function that sets the threads
    forward = Runtime.get().load_program(path).load_method("forward")

    def predict(image: Array) -> Array:
        logits: Array = forward.execute([torch.from_numpy(image)])[0].numpy()
        return logits

    return predict


def _make_predict(module: Callable[["Tensor"], "Tensor"]) -> Predict:
    import torch

    def predict(image: Array) -> Array:
        with torch.inference_mode():
            return module(torch.from_numpy(image)).numpy()

    return predict


PLAIN: Mapping[str, PlainFormat] = {
    "torchscript": PlainFormat(write_torchscript, open_torchscript),
    "onnx": PlainFormat(write_onnx, open_onnx),
    "pt2": PlainFormat(write_pt2, open_pt2),
    "aotinductor": PlainFormat(write_aotinductor, open_aotinductor),
    "openvino": PlainFormat(write_openvino, open_openvino),
    "executorch": PlainFormat(write_executorch, open_executorch),
}
"""By key of ``FORMATS``."""
