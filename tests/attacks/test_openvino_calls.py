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


def grow(operators: Any, batch: Any, image: Any) -> Any:
    """A row of ten thousand million numbers for each image."""
    return operators.broadcast(operators.constant(np.ones(1, np.float32)), times(operators, batch, 10**10))


def keep(operators: Any, batch: Any, image: Any) -> Any:
    """Many results that are allowed, and together are not."""
    one = operators.constant(np.ones(1, np.float32))
    parts = [operators.broadcast(one, times(operators, batch, 2**28 + n)) for n in range(40)]
    return operators.concat(parts, 0)


def times(operators: Any, batch: Any, number: int) -> Any:
    return operators.multiply(batch, operators.constant(np.array([number])))


def attack(source: Path, target: Path, make: Callable[[Any, Any, Any], Any]) -> Path:
    """Add zero times the sum of what an attack makes to the logits."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as operators

    model = openvino.Core().read_model(source)
    image = next(each for each in model.inputs if "image" in each.get_names())
    batch = operators.gather(
        operators.shape_of(image), operators.constant(np.array([0])), operators.constant(np.int64(0))
    )
    summed = operators.reduce_sum(make(operators, batch, image), operators.constant(np.array([0])))
    result = next(each for each in model.get_results() if "logits" in each.input_value(0).get_names())
    names, logits = result.input_value(0).get_names(), result.input_value(0)
    logits.set_names(set())
    added = operators.add(logits, operators.multiply(summed, operators.constant(np.float32(0))))
    added.output(0).set_names(names)
    result.input(0).replace_source_output(added.output(0))
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, target, compress_to_fp16=False)
    return target


@pytest.mark.parametrize("make", [grow, keep])
def test_a_size_that_the_batch_decides(
    openvino_model: Path, tmp_path: Path, make: Callable[[Any, Any, Any], Any]
) -> None:
    path = attack(openvino_model, tmp_path / "net.xml", make)
    with pytest.raises(UntrustedArtifactError, match="harmless: a call on one image would take [0-9]+ GiB of memory"):
        load(path)


def count_up(operators: Any, batch: Any, image: Any) -> Any:
    """As many numbers as the brightest value of the image says."""
    axes = operators.constant(np.arange(4))
    end = operators.convert(operators.multiply(operators.reduce_max(image, axes), np.float32(1e9)), "i64")
    zero, one = (operators.constant(np.int64(number)) for number in (0, 1))
    return operators.range(zero, end, one, output_type="f32")


def pick(operators: Any, batch: Any, image: Any) -> Any:
    """The places of all values that are not zero, and the product of each with each."""
    places = operators.convert(operators.non_zero(image, "i64"), "f32")
    product = operators.matmul(places, places, True, False)
    return operators.reshape(product, operators.constant(np.array([-1])), False)


def test_a_size_that_the_image_decides(openvino_model: Path, tmp_path: Path) -> None:
    path = attack(openvino_model, tmp_path / "net.xml", count_up)
    with pytest.raises(UntrustedArtifactError, match="harmless: nothing tells how much the layer 'Range' makes"):
        load(path)
    assert load(path, trusted=True)(np.zeros((1, *load(openvino_model).metadata.example_shape), np.float32))


def test_a_size_with_a_bound_is_no_reason_to_refuse(openvino_model: Path, tmp_path: Path) -> None:
    load(attack(openvino_model, tmp_path / "net.xml", pick))
