"""Quantized files: the explained file has their logits, and the gradient of what their integers stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import explainable_model as xm
from explainable_model.networks.onnx.kept_network import KeptNetwork
from explainable_model.networks.onnx.read import read
from tests.support.onnx_files import Small, constant, model_of, save, small_model, small_nodes, small_weights
from tests.support.onnx_quantized import answer, quantize

IMAGE = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_integers(form: str, tmp_path: Path) -> None:
    """An explained int8 file: its logits, and the gradient of what follows the layer, on the file's own integers."""
    path = quantize(save(small_model(), tmp_path), form)
    network = xm.from_onnx(path)
    assert isinstance(network, KeptNetwork), "by itself"
    explainable = xm.ExplainableModel(network, upsample=False, normalize=False)
    found = explainable(IMAGE)
    logits, integers = answer(path, IMAGE, outputs=[network.cut.crossing[0]])
    assert integers.dtype.kind in "iu"
    assert np.array_equal(found.logits.numpy(), logits)
    by_hand = combine(path, network.cut.crossing[0], integers, found.class_idx.numpy())
    np.testing.assert_allclose(found.cam.numpy(), by_hand, atol=1e-5 * by_hand.max())
    assert by_hand.max() > 0
    artifact = xm.load(xm.export(explainable, tmp_path / "explained.onnx", IMAGE))
    answered = artifact(IMAGE.numpy())
    assert np.array_equal(answered.logits, logits)
    np.testing.assert_allclose(answered.cam, by_hand, atol=1e-5 * by_hand.max())


def combine(path: Path, value: str, integers: Any, classes: Any) -> Any:
    """Grad-CAM by hand: the weights of the classifier, as the integers stand for them, over the file's activations."""
    model = onnx.load(path)
    stored = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    maker = next(node for node in model.graph.node if value in node.output)
    scale, zero = (stored[name] for name in (maker.input[1:3] if len(maker.input) < 4 else maker.input[6:8]))
    activations = (integers.astype(np.float64) - zero) * scale
    weight, steps = stored["fc.weight_quantized"], stored["fc.weight_scale"]
    table = weight.astype(np.float64) * (steps[:, None] if steps.ndim else steps)
    cells = activations.shape[2] * activations.shape[3]
    return np.maximum(np.einsum("nk,nkhw->nhw", table[classes] / cells, activations), 0)


def test_rounding_files_are_read_in_three_ways(tmp_path: Path) -> None:
    path = quantize(save(small_model(), tmp_path), "QOperator")
    whole, plain = xm.from_onnx(path, keep_graph=False), xm.from_onnx(path, rounds=False)
    logits = answer(path, IMAGE)[0]
    for network, allowed in ((whole, 1e-2), (plain, 5e-2)):
        assert not isinstance(network, KeptNetwork)
        assert float(np.abs(network(IMAGE).detach().numpy() - logits).max()) <= allowed * np.abs(logits).max()
    assert isinstance(read(path).network, KeptNetwork)
    assert any(isinstance(layer, nn.Conv2d) for layer in plain.modules())


def dynamic_model() -> onnx.ModelProto:
    """A classifier whose input is rounded by its own extremes, as dynamic quantization writes it."""
    weight = Small().fc.weight.detach().numpy().T
    step = np.float32(np.abs(weight).max() / 127)
    nodes = [
        *small_nodes()[:7],
        helper.make_node("DynamicQuantizeLinear", ["s5"], ["q", "q_scale", "q_zero"], name="/round"),
        helper.make_node("MatMulInteger", ["q", "w", "q_zero"], ["product"], name="/product"),
        helper.make_node("Cast", ["product"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["q_scale", "w_scale"], ["scale"]),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "fc.bias"], ["logits"]),
    ]
    more = [constant("w", np.round(weight / step), np.int8), constant("w_scale", step, np.float32)]
    return model_of(nodes, [*small_weights(), *more])


def test_rounding_by_the_extremes_of_each_batch(tmp_path: Path) -> None:
    path = save(dynamic_model(), tmp_path)
    own, whole = xm.from_onnx(path), xm.from_onnx(path, keep_graph=False)
    assert isinstance(own, KeptNetwork)
    assert np.array_equal(own(IMAGE).numpy(), answer(path, IMAGE)[0])
    np.testing.assert_allclose(whole(IMAGE).numpy(), answer(path, IMAGE)[0], atol=1e-5)
    expected = Small()
    integers, step = (numpy_helper.to_array(weight) for weight in dynamic_model().graph.initializer[-2:])
    expected.fc.weight.data = torch.from_numpy((integers * step).T).contiguous()
    classes = own(IMAGE).argmax(1)
    for network in (own, whole):
        cam = xm.ExplainableModel(network, "/block/block.act/Relu")(IMAGE, classes).cam
        torch.testing.assert_close(cam, xm.ExplainableModel(expected, "act")(IMAGE, classes).cam, atol=1e-5, rtol=1e-5)
