"""Outputs that are compared with ONNX Runtime in another way than logits, and those that are no table of classes."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor

import explainable_model as xm
from explainable_model.errors import ModelError
from explainable_model.networks.onnx import check
from tests.support.onnx_files import Small, constant, model_of, save, small_nodes, small_weights

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def ending(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """The small network with other nodes behind its logits."""
    weights = [constant("low", -17, np.float32), constant("shape", [0, 5, 1]), constant("scale", 1e-7, np.float32)]
    return model_of([*small_nodes(), *nodes], [*small_weights(), *weights], outputs=("end",))


def test_a_small_sigmoid_is_compared_as_a_probability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime computes sigmoids to some 1e-7; those of 4e-8 would differ by more than 1e-4 of themselves."""
    make = helper.make_node
    nodes = [
        make("Add", ["logits", "low"], ["s"]),
        make("Sigmoid", ["s"], ["p"]),
        make("Reshape", ["p", "shape"], ["end"]),
    ]
    path = save(ending(*nodes), tmp_path)
    network = xm.from_onnx(path)
    assert network.operator_of("end") == "Sigmoid"
    assert float(network(IMAGE).max()) < 1e-6
    monkeypatch.setattr(check, "LEAST_PROBABILITY", check.LEAST / 100)
    monkeypatch.setattr(check, "LEAST", check.LEAST / 100)
    with pytest.raises(ModelError, match="differs"):
        xm.from_onnx(path)


def test_small_values_of_other_kinds_are_compared_among_themselves(tmp_path: Path) -> None:
    network = xm.from_onnx(save(ending(helper.make_node("Mul", ["logits", "scale"], ["end"])), tmp_path))
    assert network.operator_of("end") == "Mul"
    assert check.least_of(network, "end") == check.LEAST
    assert network.operator_of("features") == ""  # an nn.ReLU


def test_float16_between_a_float32_image_and_float32_logits(tmp_path: Path) -> None:
    """As converters write it that keep the types of inputs and outputs; the map has the type of the logits."""
    nodes = small_nodes("half")
    nodes[-1].output[0] = "end"
    casts = [helper.make_node("Cast", ["image"], ["half"], to=10), helper.make_node("Cast", ["end"], ["logits"], to=1)]
    weights = [
        numpy_helper.from_array(numpy_helper.to_array(each).astype("float16"), each.name) for each in small_weights()
    ]
    network = xm.from_onnx(save(model_of([casts[0], *nodes, casts[1]], weights), tmp_path))
    assert network.casts_image
    explainable = xm.ExplainableModel(network, "features")
    expected, theirs = explainable(IMAGE), xm.ExplainableModel(Small(), "act")(IMAGE)
    assert expected.cam.dtype == expected.logits.dtype == torch.float32
    torch.testing.assert_close(expected.cam, theirs.cam, atol=1e-2, rtol=1e-2)
    found = xm.load(xm.export(explainable, tmp_path / "explained.onnx", IMAGE))(IMAGE.numpy())
    np.testing.assert_allclose(found.cam, expected.cam.numpy(), atol=1e-2)
    assert not xm.from_onnx(save(ending(helper.make_node("Identity", ["logits"], ["end"])), tmp_path)).casts_image


def surest(output: Tensor, class_idx: Tensor) -> Tensor:
    return output.amax((1, 2))


class Reading(Small):
    """The small network as one that reads: a step for each column, and 8 characters."""

    def forward(self, image: Tensor) -> Tensor:
        stem = torch.relu(self.norm(self.stem(torch.nn.functional.pad(image, (0, 1, 0, 1)))))
        text: Tensor = self.act(self.conv(stem)).mean(2).transpose(1, 2).softmax(2)
        return text


def test_a_text_is_explained_by_the_target_that_the_error_names(tmp_path: Path) -> None:
    make = helper.make_node
    nodes = [
        *small_nodes()[:5],
        make("ReduceMean", ["features"], ["columns"], axes=[2], keepdims=0),
        make("Transpose", ["columns"], ["steps"], perm=[0, 2, 1]),
        make("Softmax", ["steps"], ["text"], axis=2),
    ]
    network = xm.from_onnx(save(model_of(nodes, small_weights(), outputs=("text",)), tmp_path))
    with pytest.raises(ModelError, match=r"\(2, 8, 8\).*steps of a text.*output.amax\(\(1, 2\)\)"):
        xm.ExplainableModel(network)(IMAGE)
    explainable = xm.ExplainableModel(network, target=surest)
    theirs = xm.ExplainableModel(Reading(), "act", target=surest)(IMAGE)
    torch.testing.assert_close(explainable(IMAGE).logits, theirs.logits)
    torch.testing.assert_close(explainable(IMAGE).cam, theirs.cam, atol=1e-5, rtol=1e-5)
    assert theirs.cam.amax() > 0.5
