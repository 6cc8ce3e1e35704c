"""ONNX files as networks: what is read, how layers are named, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import explainable_model as xm
from explainable_model.cli.main import main
from explainable_model.eager.find_layer import default_layer
from explainable_model.errors import InputError, LayerError, ModelError
from explainable_model.networks.named import load_named_model
from tests.support.onnx_files import Small, constant, model_of, save, small_model, small_nodes, small_weights

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["gradcam", "layercam", "eigencam", "saliency"])
def test_the_map_is_that_of_the_network_the_file_was_made_of(method: str, tmp_path: Path) -> None:
    network = xm.from_onnx(save(small_model(), tmp_path))
    assert not network.training
    ours = xm.ExplainableModel(network, method=method)(IMAGE)
    theirs = xm.ExplainableModel(Small(), method=method)(IMAGE)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.cam, theirs.cam, atol=1e-5, rtol=1e-5)
    assert float(ours.cam.max()) > 0.5


@pytest.mark.parametrize("name", ["/stem/Conv", "s0", "stem", "stem_Conv"])
def test_a_layer_has_the_names_of_its_node_its_tensor_and_its_module(name: str, tmp_path: Path) -> None:
    network = xm.from_onnx(save(small_model(), tmp_path))
    ours = xm.ExplainableModel(network, target_layer=name)(IMAGE).cam
    theirs = xm.ExplainableModel(Small(), target_layer="stem", size=None)(IMAGE).cam
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_layers_of_torch_stand_for_nodes(tmp_path: Path) -> None:
    network = xm.from_onnx(save(small_model(), tmp_path))
    layers = [layer for _, layer in network.named_children()]
    kinds = [torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.ReLU, torch.nn.Conv2d, torch.nn.ReLU]
    assert all(isinstance(layer, kind) for layer, kind in zip(layers, kinds, strict=False))
    assert isinstance(layers[-1], torch.nn.Linear)
    with pytest.raises(LayerError, match="/block/block.act/Relu"):
        xm.ExplainableModel(network, target_layer="/block/block.act/Rel")


def test_a_norm_inside_a_convolution_takes_the_modules_name_away(tmp_path: Path) -> None:
    """The exporter's own weights show it; the name of the convolution would stand for the output of its norm."""
    model = small_model()
    for weight in model.graph.initializer:
        weight.name = weight.name.replace("conv.weight", "onnx::Conv_7")
    model.graph.node[3].input[1] = "onnx::Conv_7"
    aliases = xm.from_onnx(save(model, tmp_path)).layer_aliases
    assert "block.conv" not in aliases
    assert aliases["block"] == aliases["block.act"] == "block_block_act_Relu"


def test_a_module_that_runs_twice_has_no_clear_name(tmp_path: Path) -> None:
    nodes = small_nodes()
    nodes[2].name, nodes[4].name = "/block/block.act/Relu", "/block/block.act_1/Relu"
    aliases = xm.from_onnx(save(model_of(nodes, small_weights()), tmp_path)).layer_aliases
    assert "block.act" not in aliases
    assert aliases["block.act_1"] == aliases["features"]


def test_channels_last(tmp_path: Path) -> None:
    """Keras and TensorFlow: the image is turned first, and maps come out right side up."""
    nodes = [helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]), *small_nodes("turned")]
    for shape in (("N", 16, 16, 3), ("N", "H", "W", "C")):
        network = xm.from_onnx(save(model_of(nodes, small_weights(), shape), tmp_path), size=(16, 16))
        assert network.channels_last
        assert network.image_shape[1:] == ((16, 16) if shape[1] == 16 else (None, None))
        ours = xm.ExplainableModel(network)(IMAGE).cam
        torch.testing.assert_close(ours, xm.ExplainableModel(Small())(IMAGE).cam, atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="none of .* fits"):
        xm.from_onnx(tmp_path / "small.onnx", layout="NCHW")


def reshaped(shape: list[int]) -> onnx.ModelProto:
    nodes = small_nodes()
    nodes[6] = helper.make_node("Reshape", ["s4", "shape"], ["s5"], name="/Reshape")
    return model_of(nodes, [*small_weights(), constant("shape", shape)], (1, 3, 16, 16))


def test_a_file_for_one_image_is_opened(tmp_path: Path) -> None:
    network = xm.from_onnx(save(reshaped([1, 8]), tmp_path))
    assert network.fixed_batch is None
    torch.testing.assert_close(network(IMAGE), Small()(IMAGE), atol=1e-5, rtol=1e-5)


def test_a_file_that_cannot_be_opened_keeps_its_batch(tmp_path: Path) -> None:
    """A sum over the batch is another one for two images."""
    model = reshaped([-1, 8])
    model.graph.node.append(helper.make_node("ReduceSum", ["logits", "first"], ["total"], keepdims=0))
    model.graph.node.append(helper.make_node("Add", ["logits", "total"], ["sum"]))
    model.graph.initializer.append(constant("first", [0]))
    model.graph.output[0].name = "sum"
    network = xm.from_onnx(save(model, tmp_path))
    assert network.fixed_batch == 1
    assert xm.ExplainableModel(network)(IMAGE[:1]).cam.max() > 0
    with pytest.raises(InputError, match="batches of 1"):
        network(IMAGE)


def test_shapes_stay_open(tmp_path: Path) -> None:
    """What an exporter writes for ``x.flatten(1)`` and for an upsampling to the size of the image."""
    nodes = small_nodes()[:5]
    nodes += [
        helper.make_node("Shape", ["image"], ["size"]),
        helper.make_node("Slice", ["size", "two", "four"], ["end"]),
        helper.make_node("Shape", ["features"], ["small"]),
        helper.make_node("Slice", ["small", "zero", "two"], ["begin"]),
        helper.make_node("Concat", ["begin", "end"], ["goal"], axis=0),
        helper.make_node("Resize", ["features", "", "", "goal"], ["large"], mode="linear"),
        helper.make_node("GlobalAveragePool", ["large"], ["pooled"]),
        helper.make_node("Gather", ["size", "first"], ["count"]),
        helper.make_node("Unsqueeze", ["count", "zero"], ["counts"]),
        helper.make_node("Concat", ["counts", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["pooled", "flat"], ["s5"]),
        small_nodes()[7],
    ]
    more = {"zero": [0], "two": [2], "four": [4], "rest": [-1], "first": 0}
    weights = [*small_weights(), *(constant(name, value) for name, value in more.items())]
    network = xm.from_onnx(save(model_of(nodes, weights, ("N", 3, "H", "W")), tmp_path), size=(16, 16))
    assert not any("Shape" in type(layer).__name__ for layer in network.modules())
    found = [candidate.name for candidate in xm.find_layers(network, IMAGE)]
    assert xm.ExplainableModel(network)(IMAGE).cam.max() > 0
    assert found[-1] == "Resize_large" or "large" in found[-1]
    image = torch.randn(3, 3, 24, 20)
    sizes = {0: torch.export.Dim("N"), 2: torch.export.Dim("H", min=8), 3: torch.export.Dim("W", min=8)}
    exported = torch.export.export(network, (image,), dynamic_shapes=(sizes,))
    torch.testing.assert_close(exported.module()(IMAGE), network(IMAGE), atol=1e-5, rtol=1e-5)


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    nodes = [*small_nodes(), helper.make_node("Mul", ["logits", "weight"], ["weighted"])]
    more = [helper.make_tensor_value_info("weight", TensorProto.FLOAT, ["N", 5])]
    network = xm.from_onnx(
        save(model_of(nodes, small_weights(), outputs=("weighted", "features"), more=more), tmp_path)
    )
    weight = torch.rand(2, 5)
    found = xm.ExplainableModel(network, output="weighted")(IMAGE, None, weight)
    torch.testing.assert_close(found.logits, Small()(IMAGE) * weight, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="takes 2"):
        network(IMAGE)


def test_half_precision(tmp_path: Path) -> None:
    weights = [
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(w).astype(np.float16), w.name) for w in small_weights()
    ]
    network = xm.from_onnx(save(model_of(small_nodes(), weights, kind=TensorProto.FLOAT16), tmp_path))
    assert network.dtype == torch.float16
    cam = xm.ExplainableModel(network)(IMAGE.half()).cam.float()
    torch.testing.assert_close(cam, xm.ExplainableModel(Small())(IMAGE).cam, atol=2e-2, rtol=0)


def test_quantized_weights_and_activations(tmp_path: Path) -> None:
    """Integers stand for weights, and an activation is rounded: the network computes with what they stand for."""
    weight = Small().conv.weight.detach().numpy()
    scale = np.abs(weight).max((1, 2, 3)).astype(np.float32) / 127
    rounded = np.round(weight / scale[:, None, None, None]).astype(np.int8)
    nodes = small_nodes()
    nodes[3].input[:2] = ["s2_back", "weight"]
    nodes[3:3] = [
        helper.make_node("DequantizeLinear", ["stored", "scale"], ["weight"], axis=0),
        helper.make_node("QuantizeLinear", ["s2", "step", "zero"], ["s2_int"]),
        helper.make_node("DequantizeLinear", ["s2_int", "step", "zero"], ["s2_back"]),
    ]
    more = [constant("stored", rounded, np.int8), constant("scale", scale, np.float32)]
    more += [constant("step", 0.05, np.float32), constant("zero", 0, np.uint8)]
    path = save(model_of(nodes, [*small_weights(), *more]), tmp_path)
    network = xm.from_onnx(path)
    ours, theirs = (xm.ExplainableModel(net)(IMAGE).cam for net in (network, Small()))
    assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.97
    expected = Small()
    expected.conv.weight.data = torch.from_numpy(rounded * scale[:, None, None, None])
    unrounded = xm.from_onnx(path, rounds=False)
    torch.testing.assert_close(unrounded(IMAGE), expected(IMAGE), atol=1e-5, rtol=1e-4)
    assert (network(IMAGE) - expected(IMAGE)).abs().max() > 1e-4
    cam = xm.ExplainableModel(load_named_model(f"onnx:{path}").model)(IMAGE).cam
    torch.testing.assert_close(cam, xm.ExplainableModel(expected)(IMAGE).cam, atol=1e-5, rtol=1e-4)


def test_attention_is_no_map(tmp_path: Path) -> None:
    """Sixteen tokens by sixteen: the probabilities look like a map of four heads."""
    nodes = [
        helper.make_node("Conv", ["image", "patch"], ["p"], strides=[4, 4], name="patches"),
        helper.make_node("Reshape", ["p", "flat"], ["f"]),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "one", "none"], ["n"], name="norm"),
        helper.make_node("Reshape", ["n", "heads"], ["h"]),
        helper.make_node("Transpose", ["h"], ["q"], perm=[0, 2, 1, 3]),
        helper.make_node("Transpose", ["h"], ["k"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["q", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1, name="softmax"),
        helper.make_node("MatMul", ["probabilities", "q"], ["once"]),
        helper.make_node("MatMul", ["probabilities", "once"], ["twice"]),  # read twice: not fused into attention
        helper.make_node("ReduceMean", ["twice"], ["m"], axes=[2], keepdims=0),
        helper.make_node("Flatten", ["m"], ["v"]),
        helper.make_node("Gemm", ["v", "fc"], ["logits"]),
    ]
    values = {"patch": (8, 3, 4, 4), "fc": (8, 5)}
    rng = np.random.default_rng(0)
    weights = [constant(name, rng.normal(size=shape), np.float32) for name, shape in values.items()]
    weights += [constant("one", np.ones(8), np.float32), constant("none", np.zeros(8), np.float32)]
    weights += [constant("flat", [0, 8, -1]), constant("heads", [0, 16, 4, 2])]
    network = xm.from_onnx(save(model_of(nodes, weights), tmp_path))
    assert type(network.softmax).__name__ == "AttentionSoftmax"
    assert default_layer(network, IMAGE) == "norm"
    with pytest.raises(LayerError, match="attention"):
        xm.ExplainableModel(network, target_layer="softmax")(IMAGE)


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}"}, ("a", "b", "c", "d", "e")),
        ({"classes": '["a", "b", "c", "d", "e"]'}, ("a", "b", "c", "d", "e")),
        ({"character": "0\n90\n180\n270\nx"}, ("0", "90", "180", "270", "x")),
        ({"model_info labels": "a b c d e"}, ("a", "b", "c", "d", "e")),
        ({"names": "{0: 'too', 1: 'few'}"}, None),
        ({"names": "__import__('os').system('true')"}, None),
        ({}, None),
    ],
)
def test_what_the_file_says_of_its_classes(metadata: dict[str, str], names: Any, tmp_path: Path) -> None:
    named = load_named_model(f"onnx:{save(small_model(metadata=metadata), tmp_path)}")
    assert named.class_names == names
    assert named.preprocess is None
    assert named.image_shape == (3, 16, 16)


def test_what_the_file_says_of_its_photos(tmp_path: Path) -> None:
    config = json.dumps({"input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.2] * 3, "crop_pct": 1.0})
    openvino = {"model_info mean_values": "127.5 127.5 127.5", "model_info scale_values": "51 51 51"}
    for metadata in ({"pretrained_cfg": config}, openvino):
        named = load_named_model(f"onnx:{save(small_model(metadata=metadata), tmp_path)}")
        assert named.preprocess is not None
        assert (named.preprocess.size, named.preprocess.mean, named.preprocess.std) == (
            (16, 16),
            (0.5,) * 3,
            (0.2,) * 3,
        )


def test_the_command_lists_layers_under_every_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(small_model(), tmp_path)
    assert main(["layers", "--model", f"onnx:{path}", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["default"] == "block_block_act_Relu"
    assert {"block.act", "/block/block.act/Relu", "features"} <= set(record["layers"][-1]["aliases"])
    assert main(["layers", "--model", f"onnx:{path}"]) == 0
    assert "block.act" in capsys.readouterr().out
