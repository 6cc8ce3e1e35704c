"""Hostile ONNX and OpenVINO models: other folders, loops, operators of other programs, entities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainable_model import load
from explainable_model.errors import ArtifactError, UntrustedArtifactError
from tests.support.hostile import GOOD, assert_refused

onnx = pytest.importorskip("onnx")
BEFORE = GOOD / "before.onnx"


def edit_model(target: Path, edit: Callable[[Any], None]) -> Path:
    model = onnx.load(BEFORE)
    edit(model)
    target.write_bytes(model.SerializeToString())
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inner = tmp_path / "artifacts"
    inner.mkdir()
    (tmp_path / "secret.data").write_bytes(bytes(1 << 16))
    return inner


@pytest.mark.parametrize(
    "location", ["../secret.data", "{folder}/secret.data", "..\\secret.data", "net.onnx", "x\0.data"]
)
def test_weights_in_another_folder(folder: Path, location: str) -> None:
    def edit(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location.format(folder=folder.parent))

    assert_refused(edit_model(folder / "net.onnx", edit), match="its weights lie in")


def test_weights_in_another_folder_of_a_constant(folder: Path) -> None:
    def edit(model: Any) -> None:
        value = onnx.TensorProto(data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
        value.external_data.add(key="location", value="../secret.data")
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["secret"], value=value))

    assert_refused(edit_model(folder / "net.onnx", edit), match="its weights lie in")


def make_loop(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], [], body=body))


def make_function(model: Any) -> None:
    model.functions.add(name="hostile", domain="here")


def make_foreign(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("ReadFile", ["image"], ["secret"], domain="ai.onnx.contrib"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (make_loop, "an operator holds a graph"),
        (make_function, "functions or training"),
        (make_foreign, "calls the operator 'ReadFile' of another program"),
        (lambda model: model.training_info.add(), "functions or training"),
        (lambda model: model.graph.sparse_initializer.add(), "sparse weights"),
    ],
)
def test_parts_that_a_graph_does_not_need(folder: Path, edit: Callable[[Any], None], message: str) -> None:
    with pytest.raises(UntrustedArtifactError, match=message):
        load(edit_model(folder / "net.onnx", edit))


def test_a_constant_that_the_runtime_would_compute(folder: Path) -> None:
    """Two numbers make a constant of 1 GB, which ONNX Runtime must not compute while the file is loaded."""
    resource = pytest.importorskip("resource")

    def edit(model: Any) -> None:
        make = onnx.helper.make_node
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(2, 1 << 14, np.int64), "huge"))
        model.graph.node.append(make("ConstantOfShape", ["huge"], ["filled"]))
        model.graph.node.append(make("ReduceSum", ["filled"], ["summed"], keepdims=0))
        model.graph.output.append(onnx.helper.make_tensor_value_info("summed", 1, []))

    path = edit_model(folder / "net.onnx", edit)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match="the outputs of the graph are cam, explained_class_idx, logits, summed"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB


@pytest.mark.parametrize("content", [b"\x3a\xff\xff\xff\xff\x0f", b"\x3b\x3b", b"\x00\x00", b"\x38\x01", b"\xff" * 20])
def test_a_broken_message(folder: Path, content: bytes) -> None:
    (folder / "net.onnx").write_bytes(content)
    assert_refused(folder / "net.onnx", match="damaged|unknown|functions", both=True)


# OpenVINO


@pytest.fixture(scope="module")
def openvino_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openvino = pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("openvino")
    model = openvino.Core().read_model(BEFORE)
    text = {prop.key: prop.value for prop in onnx.load(BEFORE).metadata_props}["explainable_model.json"]
    model.set_rt_info(text, ["explainable_model.json"])
    openvino.save_model(model, folder / "net.xml", compress_to_fp16=False)
    return folder / "net.xml"


ENTITY = '<!DOCTYPE net [<!ENTITY secret SYSTEM "file:///etc/passwd">]>\n<net name="&secret;"'
BOMB = '<!DOCTYPE net [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>\n<net name="&b;"'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<net name=", ENTITY + " more=", "declares entities"),
        ("<net name=", BOMB + " more=", "declares entities"),
        ('version="opset1"', 'version="extension"', "has the layer"),
        ('version="opset1"', 'version="/tmp/hostile.so"', "has the layer"),
        ('<data element_type="f32"', '<data offset="99999999" element_type="f32"', "damaged"),
        ('offset="0"', 'offset="99999999"', "outside of the weights"),
        ('offset="0"', 'offset="-4"', "outside of the weights"),
        ('shape="4, 3, 3, 3"', 'shape="4, 3, 3, 4"', "and not those of its shape"),
        ("<layers>", "<layers><body/>", "holds a graph, as loops do"),
        ("<layers>", "<layers>" + "<a>" * 5000, "nested too deep"),
        ("<layers>", "<layers><unclosed>", "damaged"),
    ],
)
def test_a_hostile_xml(openvino_model: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = openvino_model.read_text()
    assert old in text
    path = tmp_path / "net.xml"
    path.write_text(text.replace(old, new, 1))
    path.with_suffix(".bin").write_bytes(openvino_model.with_suffix(".bin").read_bytes())
    assert_refused(path, match=message, both=True)


def test_the_good_files_are_accepted(openvino_model: Path) -> None:
    with np.load(GOOD / "before.npz") as expected:
        for path in (BEFORE, openvino_model):
            assert np.abs(load(path)(expected["image"]).cam - expected["cam"]).max() < 1e-4


def test_weights_that_are_too_short(openvino_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.xml"
    path.write_bytes(openvino_model.read_bytes())
    path.with_suffix(".bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match="outside of the weights"):
        load(path)
