"""Hostile ONNX and OpenVINO models: other folders, loops, operators of other programs, entities."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainable_model import load
from explainable_model.errors import ArtifactError, UntrustedArtifactError
from explainable_model.exporters.guard.openvino_graph import check_sizes
from explainable_model.exporters.guard.refusal import Refusal
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


def make_contributed(model: Any) -> None:
    """ONNX Runtime's own operators: this one names a file of machine code."""
    make = onnx.helper.make_node
    model.graph.node.append(make("EPContext", ["image"], ["secret"], domain="com.microsoft", ep_cache_context="x.so"))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (make_loop, "an operator holds a graph"),
        (make_function, "functions or training"),
        (make_foreign, "calls the operator 'ReadFile' of another domain"),
        (make_contributed, "calls the operator 'EPContext' of another domain"),
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


def multiply(model: Any, times: int, first: str) -> None:
    """Multiply all values of a tensor with each other, again and again: 768, 589,824, 350 billion values."""
    make, graph, name = onnx.helper.make_node, model.graph, first
    for key, shape in (("column", [-1, 1]), ("row", [1, -1])):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(shape), key))
    for n in range(times):
        graph.node.append(make("Reshape", [name, "column"], [f"column_{n}"]))
        graph.node.append(make("Reshape", [name, "row"], [f"row_{n}"]))
        graph.node.append(make("MatMul", [f"column_{n}", f"row_{n}"], [f"product_{n}"]))
        name = f"product_{n}"
    graph.node.append(make("ReduceSum", [name], ["summed"], keepdims=0))
    logits = next(each for node in graph.node for each in node.output if each == "logits")
    next(node for node in graph.node if logits in node.output).output[0] = "before"
    graph.node.append(make("Mul", ["summed", "nothing"], ["zero"]))
    graph.node.append(make("Add", ["before", "zero"], ["logits"]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.float32), "nothing"))


def test_a_call_that_takes_a_terabyte(folder: Path) -> None:
    with pytest.raises(UntrustedArtifactError, match="a call on one image would take 1296 GiB of memory"):
        load(edit_model(folder / "net.onnx", lambda model: multiply(model, 2, "image")))
    load(edit_model(folder / "net.onnx", lambda model: multiply(model, 1, "image")))


def test_many_parts_that_are_kept(folder: Path) -> None:
    """Each is allowed, and together they are not."""

    def edit(model: Any) -> None:
        make = onnx.helper.make_node
        for number in range(40):
            size = onnx.numpy_helper.from_array(np.array([1 << 14, 1 << 14]), f"size_{number}")
            model.graph.initializer.append(size)
            model.graph.node.append(make("Slice", ["image", "start", "end", "axes"], [f"one_{number}"]))
            model.graph.node.append(make("Squeeze", [f"one_{number}"], [f"number_{number}"]))
            model.graph.node.append(make("Expand", [f"number_{number}", f"size_{number}"], [f"part_{number}"]))
        for name, values in (("start", [0, 0, 0, 0]), ("end", [1, 1, 1, 1]), ("axes", [0, 1, 2, 3])):
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
        model.graph.node.append(make("Sum", [f"part_{number}" for number in range(40)], ["all"]))

    with pytest.raises(UntrustedArtifactError, match="a call on one image would take 4[01] GiB of memory"):
        load(edit_model(folder / "net.onnx", edit))


def test_a_size_that_the_image_says(folder: Path) -> None:
    """Nothing tells how large it becomes before the graph runs."""

    def edit(model: Any) -> None:
        make = onnx.helper.make_node
        model.graph.node.append(make("Shape", ["image"], ["sizes"]))
        model.graph.node.append(make("ReduceMax", ["image"], ["largest"], keepdims=0))
        model.graph.node.append(make("Cast", ["largest"], ["whole"], to=7))
        model.graph.node.append(make("Mul", ["sizes", "whole"], ["multiplied"]))
        model.graph.node.append(make("Expand", ["largest", "multiplied"], ["grown"]))

    path = edit_model(folder / "net.onnx", edit)
    with pytest.raises(UntrustedArtifactError, match="nothing tells how large its part 'grown' becomes"):
        load(path)
    assert load(path, trusted=True).metadata.format == "onnx"


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


def broadcast(operators: Any, number: Any) -> Any:
    return operators.broadcast(number, operators.constant(np.full(2, 1 << 14)))


def fill(operators: Any, number: Any) -> Any:
    return operators.tile(operators.reshape(number, [1, 1], special_zero=False), np.full(2, 1 << 14))


def count(operators: Any, number: Any) -> Any:
    steps = [np.int64(0), np.int64(1 << 28), np.int64(1)]
    return operators.range(*map(operators.constant, steps), "f32")


@pytest.mark.parametrize("make", [broadcast, fill, count])
def test_a_constant_that_openvino_would_compute(
    openvino_model: Path, tmp_path: Path, make: Callable[[Any, Any], Any]
) -> None:
    """A file of 60 KB would take a gigabyte while it is compiled."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as operators

    resource = pytest.importorskip("resource")
    model = openvino.Core().read_model(openvino_model)
    made = make(operators, operators.constant(np.ones(1, np.float32)))
    summed = operators.reduce_sum(made, operators.constant(np.arange(len(made.get_output_partial_shape(0)))))
    result = next(each for each in model.get_results() if "logits" in each.input_value(0).get_names())
    names, logits = result.input_value(0).get_names(), result.input_value(0)
    logits.set_names(set())
    added = operators.add(logits, operators.multiply(summed, operators.constant(np.float32(0))))
    added.output(0).set_names(names)
    result.input(0).replace_source_output(added.output(0))
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, tmp_path / "net.xml", compress_to_fp16=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert_refused(tmp_path / "net.xml", match="the layer .* makes .* values")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


@pytest.mark.parametrize(("place", "known"), [(0, False), (1, True)])
def test_sizes_that_are_known_before_a_call(place: int, known: bool) -> None:
    """Of a fixed size OpenVINO could compute a constant while it loads a file; an open one is known in a call alone."""
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as operators

    image = operators.parameter([-1, 3], np.float32)
    axis = operators.constant(np.int64(0))
    size = operators.gather(operators.shape_of(image), operators.constant(np.array([place])), axis)
    power = operators.exp(operators.multiply(operators.convert(size, "f32"), operators.constant(np.float32(8))))
    grown = operators.convert(power, "i64")
    model = openvino.Model([operators.broadcast(operators.constant(np.float32(1)), grown)], [image])
    with pytest.raises(Refusal, match="makes .* values") if known else nullcontext():
        check_sizes(model, 0)
