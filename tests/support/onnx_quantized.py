"""Quantized files, written by ONNX Runtime's quantizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor


class Noise(CalibrationDataReader):  # type: ignore[misc]
    """A few images of noise."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._images = iter([{"image": rng.normal(size=shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self._images, None)


def quantize(path: Path, form: str, shape: tuple[int, ...] = (2, 3, 16, 16)) -> Path:
    """Write the int8 file beside the float file: ``QDQ``, or ``QOperator`` with ``QLinearConv`` and its like."""
    target = path.with_name(f"{path.stem}-{form}.onnx")
    quantize_static(
        str(path), str(target), Noise(shape), quant_format=QuantFormat[form], per_channel=True,
        weight_type=QuantType.QInt8,
    )  # fmt: skip
    return target


def answer(path: Path, image: Tensor, outputs: Sequence[str] = ()) -> list[Any]:
    """ONNX Runtime's own answer to a file, and to inner values of it."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: image.numpy()}))
