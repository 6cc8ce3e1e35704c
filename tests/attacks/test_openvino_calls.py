"""Calls of OpenVINO graphs that take memory which no record justifies: refused by ``load``."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainable_model import load
from explainable_model.errors import UntrustedArtifactError
from tests.attacks.test_onnx_openvino import openvino_model

__all__ = ["openvino_model"]


def grow(operators: Any, batch: Any) -> Any:
    """A row of ten thousand million numbers for each image."""
    return operators.broadcast(operators.constant(np.ones(1, np.float32)), times(operators, batch, 10**10))


def keep(operators: Any, batch: Any) -> Any:
    """Many results that are allowed, and together are not."""
    one = operators.constant(np.ones(1, np.float32))
    parts = [operators.broadcast(one, times(operators, batch, 2**28 + n)) for n in range(40)]
    return operators.concat(parts, 0)


def times(operators: Any, batch: Any, number: int) -> Any:
    return operators.multiply(batch, operators.constant(np.array([number])))


@pytest.mark.parametrize("make", [grow, keep])
def test_a_size_that_the_batch_decides(openvino_model: Path, tmp_path: Path, make: Callable[[Any, Any], Any]) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as operators

    model = openvino.Core().read_model(openvino_model)
    image = next(each for each in model.inputs if "image" in each.get_names())
    batch = operators.gather(
        operators.shape_of(image), operators.constant(np.array([0])), operators.constant(np.int64(0))
    )
    summed = operators.reduce_sum(make(operators, batch), operators.constant(np.array([0])))
    result = next(each for each in model.get_results() if "logits" in each.input_value(0).get_names())
    names, logits = result.input_value(0).get_names(), result.input_value(0)
    logits.set_names(set())
    added = operators.add(logits, operators.multiply(summed, operators.constant(np.float32(0))))
    added.output(0).set_names(names)
    result.input(0).replace_source_output(added.output(0))
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, tmp_path / "net.xml", compress_to_fp16=False)
    with pytest.raises(UntrustedArtifactError, match="harmless: a call on one image would take [0-9]+ GiB of memory"):
        load(tmp_path / "net.xml")
