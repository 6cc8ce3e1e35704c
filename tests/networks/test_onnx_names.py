"""The explained ONNX file keeps the names of the original's inputs, and its record names them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor

import explainable_model as xm
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from tests.support.onnx_files import model_of, save, small_model, small_nodes, small_weights

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def named(name: str, output: str = "logits") -> onnx.ModelProto:
    """The small network with other names of its input and output."""
    model = small_model(outputs=(output,))
    model.graph.input[0].name = model.graph.node[0].input[0] = name
    model.graph.node[-1].output[0] = output
    return model


def export_file(
    model: onnx.ModelProto, folder: Path, *inputs: Tensor, keep_graph: bool = False, **options: object
) -> Path:
    network = xm.from_onnx(save(model, folder), keep_graph=keep_graph)
    explainable = xm.ExplainableModel(network, "features")
    return xm.export(explainable, folder / "explained.onnx", IMAGE, *inputs, **options)  # type: ignore[arg-type]


def inputs_of(path: Path) -> list[str]:
    return [value.name for value in onnx.load(path).graph.input]


@pytest.mark.parametrize(
    ("name", "keep_graph"), [("pixel_values", False), ("pixel_values", True), ("relu", False), ("features", True)]
)
def test_a_program_asks_by_the_original_s_name(name: str, keep_graph: bool, tmp_path: Path) -> None:
    """Also by one that a value of the explanation, or of the exporter, would have."""
    model = named(name)
    if name == "features":
        for node in model.graph.node:
            node.input[:] = [
                "f" if value == "features" and node is not model.graph.node[0] else value for value in node.input
            ]
            node.output[:] = ["f" if value == "features" else value for value in node.output]
    network = xm.from_onnx(save(model, tmp_path), keep_graph=keep_graph)
    explainable = xm.ExplainableModel(network, "block.act")
    path = xm.export(explainable, tmp_path / "explained.onnx", IMAGE)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {name: IMAGE.numpy(), "class_idx": np.full(2, -1)}
    logits, _, cam = session.run(["logits", "explained_class_idx", "cam"], feed)
    expected = explainable(IMAGE)
    np.testing.assert_allclose(cam, expected.cam.numpy(), atol=1e-5)
    np.testing.assert_allclose(logits, expected.logits.numpy(), atol=1e-5)
    record = xm.read_metadata(path).to_dict()
    assert (record["input_names"], record["inputs"]["image"]["name"]) == ({"image": name}, name)
    np.testing.assert_array_equal(xm.load(path, check=True)(IMAGE.numpy()).cam, cam)


@pytest.mark.parametrize("name", ["class_idx", "cam"])
def test_a_name_that_the_artifact_has_is_not_kept(name: str, tmp_path: Path) -> None:
    path = export_file(named(name, output="scores"), tmp_path)
    assert inputs_of(path) == ["image", "class_idx"]
    assert xm.load(path).metadata.input_names == {}


def test_what_takes_something_else_has_its_own_name(tmp_path: Path) -> None:
    """Photos in place of the network's image, the channels first in place of last, and other formats."""
    preparation = xm.Preprocess((16, 16))
    path = export_file(named("pixel_values"), tmp_path, preprocess=preparation, pixels="NHWC")
    assert inputs_of(path) == ["image", "class_idx"]
    transposed = helper.make_node("Transpose", ["pixels"], ["image"], perm=[0, 3, 1, 2])
    last = model_of([transposed, *small_nodes()], small_weights(), ("N", 16, 16, 3))
    last.graph.input[0].name = "pixels"
    assert inputs_of(export_file(last, tmp_path)) == ["image", "class_idx"]
    network = xm.from_onnx(save(named("pixel_values"), tmp_path))
    other = xm.export(xm.ExplainableModel(network), tmp_path / "explained.ts", IMAGE)
    assert xm.load(other).metadata.input_names == {}


def test_further_inputs_keep_their_names(tmp_path: Path) -> None:
    nodes = [*small_nodes("image"), helper.make_node("Add", ["logits", "prior"], ["sum"])]
    prior = helper.make_tensor_value_info("prior", TensorProto.FLOAT, ["N", 5])
    path = export_file(model_of(nodes, small_weights(), outputs=("sum",), more=[prior]), tmp_path, torch.zeros(2, 5))
    assert inputs_of(path) == ["image", "class_idx", "prior"]
    session = xm.load(path)
    assert session.metadata.input_names == {"input_0": "prior"}
    raised = torch.tensor([[0.0, 0, 0, 9, 0]] * 2)
    assert session(IMAGE.numpy(), None, raised.numpy()).class_idx.tolist() == [3, 3]


def test_the_name_outlives_another_precision(tmp_path: Path) -> None:
    photos = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    path = export_file(named("pixel_values"), tmp_path, precision="int8", calibration=photos)
    assert inputs_of(path) == ["pixel_values", "class_idx"]
    assert xm.load(path).metadata.graph_inputs == ["pixel_values", "class_idx"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "inputs of the graph are class_idx, pixel_values"),
        ({"image": "class_idx"}, "inputs of the graph"),
        ({"image": "other"}, "expected class_idx, other"),
        ({"image": 3}, "input_names"),
        (["image"], "input_names"),
    ],
)
def test_a_record_that_names_other_inputs_is_refused(names: object, message: str, tmp_path: Path) -> None:
    path = export_file(named("pixel_values"), tmp_path)
    model = onnx.load(path)
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    entry.value = json.dumps({**json.loads(entry.value), "input_names": names})
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=message):
        xm.load(path)


def test_a_record_may_name_what_no_artifact_has(tmp_path: Path) -> None:
    metadata = xm.read_metadata(export_file(named("pixel_values"), tmp_path))
    assert "other" not in replace(metadata, input_names={"other": "x"}).to_dict()["inputs"]


@pytest.mark.parametrize("keep_graph", [False, True])
def test_a_layer_may_be_called_as_what_a_network_is_asked_for(keep_graph: bool, tmp_path: Path) -> None:
    """Its values and nodes have the names of attributes; each is a layer, whose name here is another one."""
    plain = xm.from_onnx(save(small_model(), tmp_path), keep_graph=keep_graph)
    words = sorted({*vars(plain), *dir(type(plain))} - set(dir(torch.nn.Module)))
    words = [word for word in words if not word.startswith("_")]
    assert len(words) >= 15
    theirs = xm.ExplainableModel(plain, "block.act")(IMAGE).cam
    for word in words:
        model = small_model()
        for node in model.graph.node:
            node.input[:] = [word if value == "features" else value for value in node.input]
            node.output[:] = [word if value == "features" else value for value in node.output]
        model.graph.node[4].name = word
        network = xm.from_onnx(save(model, tmp_path), keep_graph=keep_graph)
        torch.testing.assert_close(xm.ExplainableModel(network, word)(IMAGE).cam, theirs)
