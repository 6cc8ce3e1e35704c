"""Files whose own nodes stay: the prediction is theirs to the last bit, and the map is that of the layers behind."""

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import explainable_model as xm
from explainable_model.cli.main import main
from explainable_model.errors import (
    InputError,
    LayerError,
    ModelError,
    StaticBatchWarning,
    UntrustedArtifactError,
    UntrustedArtifactWarning,
)
from explainable_model.networks.onnx.kept_network import KeptNetwork
from tests.support.onnx_files import Small, constant, model_of, save, small_model, small_nodes, small_weights
from tests.support.onnx_quantized import answer

IMAGE = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def kept(path: Path, layer: Any = True, **options: Any) -> KeptNetwork:
    network = xm.from_onnx(path, keep_graph=layer, **options)
    assert isinstance(network, KeptNetwork)
    return network


def test_the_map_is_the_network_s_and_the_prediction_the_file_s(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path)
    network = kept(path)
    assert network.cut.layer == "/block/block.act/Relu"
    explainable = xm.ExplainableModel(network)
    found = explainable(IMAGE)
    assert explainable.target_layer == "block_block_act_Relu"
    assert np.array_equal(found.logits.numpy(), answer(path, IMAGE)[0])
    torch.testing.assert_close(found.cam, xm.ExplainableModel(Small())(IMAGE).cam, atol=1e-5, rtol=1e-5)
    for again in (copy.deepcopy(network), pickle.loads(pickle.dumps(network.graph)).run([IMAGE])):
        values = again(IMAGE) if isinstance(again, KeptNetwork) else again[0]
        assert torch.equal(values, found.logits)


@pytest.mark.parametrize("layer", ["stem", "/Relu", "s2", "conv"])
def test_any_layer_can_be_the_first_that_pytorch_sees(layer: str, tmp_path: Path) -> None:
    name = {"conv": "block.conv"}.get(layer, layer)
    ours = xm.ExplainableModel(kept(save(small_model(), tmp_path), name), name)(IMAGE)
    if layer in ("/Relu", "s2"):
        whole = xm.from_onnx(tmp_path / "small.onnx")
        theirs = xm.ExplainableModel(whole, layer)(IMAGE)
    else:
        theirs = xm.ExplainableModel(Small(), layer)(IMAGE)
    torch.testing.assert_close(ours.cam, theirs.cam, atol=1e-5, rtol=1e-5)


def residual_nodes() -> list[onnx.NodeProto]:
    """Two values cross a cut inside of the block, and a sigmoid ends it."""
    nodes = small_nodes()
    nodes[3].input[0], nodes[3].output[0] = "s2", "s3"
    nodes[4].input[0] = "s3"
    add = helper.make_node("Add", ["features", "twice"], ["summed"], name="/add")
    nodes[5:5] = [helper.make_node("Concat", ["s2", "two"], ["twice"], axis=1, name="/concat"), add]
    nodes[7].input[0] = "summed"
    nodes[-1].output[0] = "scores"
    return [*nodes, helper.make_node("Softmax", ["scores"], ["logits"], name="/softmax")]


def residual_model(**options: Any) -> onnx.ModelProto:
    nodes = residual_nodes()
    nodes[5] = helper.make_node("Conv", ["s2", "wide"], ["twice"], name="/wide")
    wide = np.random.default_rng(0).normal(size=(8, 6, 1, 1))
    return model_of(nodes, [*small_weights(), constant("wide", wide, np.float32)], **options)


def test_several_values_cross_the_cut(tmp_path: Path) -> None:
    path = save(residual_model(), tmp_path)
    network = kept(path, "/block/block.act/Relu")
    assert network.cut.crossing == ("features", "twice")
    whole = xm.from_onnx(path)
    ours, theirs = (xm.ExplainableModel(net, "features")(IMAGE) for net in (network, whole))
    assert np.array_equal(ours.logits.numpy(), answer(path, IMAGE)[0])
    torch.testing.assert_close(ours.cam, theirs.cam, atol=1e-5, rtol=1e-5)
    assert kept(path).cut.layer == "/add"


def test_the_artifact_has_the_file_s_nodes(tmp_path: Path) -> None:
    """Opset 13 is converted; a softmax at the end, two values across the cut, weights stored once."""
    notes = {"names": "['a', 'b', 'c', 'd', 'e']", "author": "somebody"}
    path = save(residual_model(opset=13, metadata=notes), tmp_path)
    network = kept(path, "features")
    explainable = xm.ExplainableModel(network, "features")
    lowered = xm.lower(explainable, IMAGE)
    del network, explainable
    found = xm.load(xm.export(lowered, tmp_path / "explained.onnx"))(IMAGE.numpy())
    assert np.array_equal(found.logits, answer(path, IMAGE)[0])
    theirs = xm.ExplainableModel(xm.from_onnx(path), "features")(IMAGE)
    np.testing.assert_allclose(found.cam, theirs.cam.numpy(), atol=1e-5)
    assert found.probabilities is found.logits
    file, explained = onnx.load(path), onnx.load(tmp_path / "explained.onnx")
    nodes = {node.name: node for node in explained.graph.node}
    for node in file.graph.node:
        same = nodes[node.name]
        assert (same.op_type, list(same.input)) == (node.op_type, list(node.input))
    weights = [numpy_helper.to_array(weight).tobytes() for weight in explained.graph.initializer]
    assert weights.count(numpy_helper.to_array(file.graph.initializer[-2]).tobytes()) == 1
    stored = {entry.key: entry.value for entry in explained.metadata_props}
    assert stored.items() >= notes.items()
    assert json.loads(stored["explained_from"]) == {"inputs": ["image"], "outputs": ["logits"]}
    assert not any(node.domain for node in explained.graph.node)


def test_without_the_nodes_the_artifact_keeps_the_notes(tmp_path: Path) -> None:
    network = xm.from_onnx(save(small_model(metadata={"author": "somebody"}), tmp_path))
    xm.export(xm.ExplainableModel(network), tmp_path / "explained.onnx", IMAGE)
    stored = {entry.key: entry.value for entry in onnx.load(tmp_path / "explained.onnx").metadata_props}
    assert stored["author"] == "somebody"
    assert json.loads(stored["explained_from"])["inputs"] == ["image"]


def contributed(kind: str, position: int) -> onnx.ModelProto:
    """ONNX Runtime's own operator before or behind the last layer."""
    nodes = small_nodes()
    name = nodes[position].output[0]
    nodes[position].output[0] = f"{name}_before"
    nodes.insert(position + 1, helper.make_node(kind, [f"{name}_before"], [name], domain="com.microsoft", name="own"))
    model = model_of(nodes, small_weights(), opset=20)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def test_operators_that_only_onnx_runtime_computes(tmp_path: Path) -> None:
    network = xm.from_onnx(save(contributed("Gelu", 2), tmp_path))
    assert isinstance(network, KeptNetwork)
    assert network.cut.layer == "/block/block.act/Relu"
    path = xm.export(xm.ExplainableModel(network), tmp_path / "explained.onnx", IMAGE)
    assert np.array_equal(xm.load(path)(IMAGE.numpy()).logits, answer(tmp_path / "small.onnx", IMAGE)[0])
    assert {each.version for each in onnx.load(path).opset_import if not each.domain} == {20}
    with pytest.raises(ModelError, match="Gelu 'own' of the domain 'com.microsoft' follows the layer"):
        xm.from_onnx(tmp_path / "small.onnx", keep_graph="stem")
    with pytest.raises(ModelError, match="Gelu 'own'.*other than|domain 'com.microsoft'"):
        xm.from_onnx(save(contributed("Gelu", 7), tmp_path))


def test_an_operator_that_may_do_anything(tmp_path: Path) -> None:
    network = xm.from_onnx(save(contributed("Trilu", 2), tmp_path))
    with pytest.warns(UntrustedArtifactWarning, match="Trilu"):
        path = xm.export(xm.ExplainableModel(network), tmp_path / "explained.onnx", IMAGE)
    with pytest.raises(UntrustedArtifactError, match="Trilu"):
        xm.load(path)
    assert xm.load(path, trusted=True)(IMAGE.numpy()).cam.max() > 0


def pixels_model() -> onnx.ModelProto:
    """Two images of whole pixels, channels last."""
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["turned"], perm=[0, 3, 1, 2]),
        *small_nodes("turned"),
    ]
    weights = [*small_weights(), constant("white", 255, np.float32)]
    return model_of(nodes, weights, (2, 16, 16, 3), kind=TensorProto.UINT8)


def test_whole_pixels_with_channels_last_and_one_batch_size(tmp_path: Path) -> None:
    path = save(pixels_model(), tmp_path)
    network = kept(path)
    assert network.fixed_batch == 2
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    found = xm.ExplainableModel(network)(pixels)
    assert np.array_equal(
        found.logits.numpy(), answer(path, pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous())[0]
    )
    torch.testing.assert_close(found.cam, xm.ExplainableModel(Small())(pixels / 255).cam, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="batches of 2"):
        network(pixels[:1])


def test_one_batch_size_is_the_artifact_s_as_well(tmp_path: Path) -> None:
    explainable = xm.ExplainableModel(kept(save(pixels_model(), tmp_path)))
    pixels = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float()
    with pytest.warns(StaticBatchWarning, match="a batch of exactly 2"):
        lowered = xm.lower(explainable, pixels)
    torch.testing.assert_close(lowered(pixels).cam, explainable(pixels).cam, atol=1e-5, rtol=1e-5)


def test_what_a_kept_graph_cannot_do_is_said(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path)
    network = kept(path)
    with pytest.raises(LayerError, match=r"'stem' is not in .*keep_graph='LAYER'"):
        xm.ExplainableModel(network, "stem")
    with pytest.raises(ModelError, match="gradients before the layer.*keep_graph=False"):
        xm.ExplainableModel(network, method="saliency")(IMAGE)
    assert xm.ExplainableModel(network, method="scorecam")(IMAGE).cam.max() > 0
    with pytest.raises(ModelError, match="no layer 'block.akt'.*Did you mean 'block.act'"):
        kept(path, "block.akt")
    with pytest.raises(ModelError, match="no output of it depends"):
        kept(path, "/fc/Gemm")
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("Gemm", ["flat", "w"], ["logits"])]
    with pytest.raises(ModelError, match="no layer with a map"):
        kept(save(model_of(nodes, [constant("w", np.ones((768, 5)), np.float32)]), tmp_path))


def test_what_such_an_artifact_cannot_be_is_said(tmp_path: Path) -> None:
    explainable = xm.ExplainableModel(kept(save(small_model(), tmp_path)))
    lowered = xm.lower(explainable, IMAGE)
    with pytest.raises(InputError, match="ONNX file, which libtorch does not run: write explained.onnx"):
        xm.export(lowered, tmp_path / "explained.ts")
    with pytest.raises(InputError, match="leave out precision='float16'"):
        xm.export(lowered, tmp_path / "explained.onnx", precision="float16")
    with pytest.raises(InputError, match="one size of images: leave out dynamic_size"):
        xm.lower(explainable, IMAGE, dynamic_size=True)


def test_the_command_keeps_what_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = save(small_model(), tmp_path), tmp_path / "explained.onnx"
    options = ["export", "--model", f"onnx:{path}", "--layer", "block.act", "--mean", "0,0,0", "--std", "1,1,1"]
    assert main([*options, "--keep-graph", "-o", str(out)]) == 0
    assert "/fc/Gemm" in {node.name for node in onnx.load(out).graph.node}
    assert main([*options[:1], "--model", "torchvision:resnet18", "--keep-graph", "-o", str(out)]) != 0
    assert "keep_graph is for onnx:FILE" in capsys.readouterr().err
