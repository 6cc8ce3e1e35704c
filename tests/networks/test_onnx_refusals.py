"""ONNX files that are refused: weights elsewhere, unknown nodes, other versions, wrong answers."""

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
from explainable_model.errors import LayerError, ModelError
from explainable_model.networks.onnx import check, read
from explainable_model.networks.onnx.operators import OPERATORS
from explainable_model.networks.onnx.operators.call import Operator
from tests.support.onnx_files import Small, constant, model_of, save, small_model, small_nodes, small_weights

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, name=f"the_{kind}", **attributes)


def test_weights_beside_the_file(tmp_path: Path) -> None:
    path = save(small_model(), tmp_path, save_as_external_data=True, location="w.data", size_threshold=0)
    torch.testing.assert_close(xm.from_onnx(path)(IMAGE), Small()(IMAGE), atol=1e-5, rtol=1e-5)
    (tmp_path / "w.data").write_bytes(b"short")
    with pytest.raises(ModelError, match="truncated"):
        xm.from_onnx(path)
    (tmp_path / "w.data").unlink()
    with pytest.raises(ModelError, match="no such file"):
        xm.from_onnx(path)


@pytest.mark.parametrize(
    "location", ["../secret.data", "/etc/passwd", "inside/../../secret.data", "link.data", ".", ""]
)
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "secret.data").write_bytes(bytes(10_000))
    (folder := tmp_path / "model").mkdir()
    (folder / "link.data").symlink_to(tmp_path / "secret.data")
    model = small_model()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    with pytest.raises(ModelError, match="its own folder"):
        xm.from_onnx(save_proto(model, folder))


def save_proto(model: onnx.ModelProto, folder: Path) -> Path:
    (path := folder / "odd.onnx").write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "truncated"), (b"PK\x03\x04 a zip archive", "not an ONNX model"), (b"\x08\x08", "no graph")],
)
def test_files_that_are_no_model(content: bytes, message: str, tmp_path: Path) -> None:
    (path := tmp_path / "odd.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        xm.from_onnx(path)
    with pytest.raises(ModelError, match="no file"):
        xm.from_onnx(tmp_path / "none.onnx")


def branch(value: float) -> onnx.GraphProto:
    nodes = [helper.make_node("Constant", [], [f"b{value}"], value_float=value)]
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info(f"b{value}", TensorProto.FLOAT, [])])


HUGE = [
    constant("huge", [2**20, 2**20, 2**10, 1]),
    constant("huge_depth", 2**40),
    constant("values", [0, 1], np.float32),
]


def ending(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    return model_of(
        [*small_nodes(), *nodes], [*small_weights(), constant("true", True, np.bool_), *HUGE], outputs=("end",)
    )


def test_a_branch_with_a_constant_condition(tmp_path: Path) -> None:
    choose = node("If", ["true"], ["b"], then_branch=branch(2.0), else_branch=branch(5.0))
    network = xm.from_onnx(save(ending(choose, node("Mul", ["logits", "b"], ["end"])), tmp_path))
    torch.testing.assert_close(network(IMAGE), 2 * Small()(IMAGE), atol=1e-5, rtol=1e-5)


def computed_branch() -> list[onnx.NodeProto]:
    found = [node("ReduceMax", ["logits"], ["top"], keepdims=0), node("Cast", ["top"], ["yes"], to=TensorProto.BOOL)]
    choose = node("If", ["yes"], ["b"], then_branch=branch(2.0), else_branch=branch(5.0))
    return [*found, choose, node("Mul", ["logits", "b"], ["end"])]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (computed_branch(), "If 'the_If'.*condition is computed"),
        ([node("NonZero", ["logits"], ["end"])], "no operator NonZero.*row"),
        ([node("Dropout", ["logits", "", "true"], ["end"])], "Dropout 'the_Dropout'.*training mode"),
        ([node("Pad", ["logits", "image"], ["end"])], "ONNX Runtime does not load.*the_Pad"),
        (
            [node("ConstantOfShape", ["huge"], ["end"])],
            "ConstantOfShape 'the_ConstantOfShape' takes too much memory.*at most 8 GiB",
        ),
        ([node("Expand", ["logits", "huge"], ["end"])], "the_Expand"),
        ([node("Pad", ["logits", "huge"], ["end"])], "the_Pad"),
        ([node("OneHot", ["huge", "huge_depth", "values"], ["end"])], "the_OneHot"),
    ],
)
def test_nodes_that_are_refused(nodes: list[onnx.NodeProto], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        xm.from_onnx(save(ending(*nodes), tmp_path))


def test_versions_and_other_domains(tmp_path: Path) -> None:
    for opset, message in ((6, "opset 6; expected 7"), (9999, "opset 9999")):
        with pytest.raises(ModelError, match=message):
            xm.from_onnx(save_proto(small_model(opset=opset), tmp_path))
    model = ending(helper.make_node("FusedGelu", ["logits"], ["end"], domain="com.example", name="mine"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(ModelError, match="ONNX Runtime|com.example"):
        xm.from_onnx(save_proto(model, tmp_path))


def test_a_newer_file(tmp_path: Path) -> None:
    model = small_model()
    model.ir_version = onnx.IR_VERSION + 1
    with pytest.raises(
        ModelError, match=rf"IR version {onnx.IR_VERSION + 1}; onnx .* and {onnx.IR_VERSION}.*pip install -U"
    ):
        xm.from_onnx(save_proto(model, tmp_path))


def test_an_operator_without_a_row_says_how_to_add_one(tmp_path: Path) -> None:
    """Behind the last layer; one of a domain that ONNX Runtime has is found by the reader."""
    model = ending(node("FastGelu", ["logits"], ["end"], domain="com.microsoft"))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match=r"FastGelu 'the_FastGelu'.*'com.microsoft'.*row.*operators.*CONTRIBUTING"):
        xm.from_onnx(save_proto(model, tmp_path), keep_graph=False)


def repeat(kind: str) -> list[onnx.NodeProto]:
    """A loop of one turn behind the logits."""
    value = helper.make_tensor_value_info
    if kind == "Scan":
        body = helper.make_graph(
            [helper.make_node("Identity", ["row"], ["same"])], "body", [value("row", TensorProto.FLOAT, [5])],
            [value("same", TensorProto.FLOAT, [5])],
        )  # fmt: skip
        return [node("Scan", ["logits"], ["end"], body=body, num_scan_inputs=1)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Neg", ["value"], ["other"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("value", TensorProto.FLOAT, None),
        ],
        [value("goes", TensorProto.BOOL, []), value("other", TensorProto.FLOAT, None)],
    )
    return [node("Loop", ["turns", "true", "logits"], ["end"], body=body)]


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_a_loop_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    model = ending(*repeat(kind))
    model.graph.initializer.append(constant("turns", 1))
    with pytest.raises(ModelError, match=f"{kind} 'the_{kind}'.*no graph of PyTorch holds; export without it"):
        xm.from_onnx(save(model, tmp_path), keep_graph=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            helper.make_tensor_sequence_value_info("image", TensorProto.FLOAT, None),
            "'image' is a sequence_type; expected a",
        ),
        (helper.make_tensor_value_info("image", TensorProto.STRING, ["N", 3, 8, 8]), "'image' holds text"),
    ],
)
def test_inputs_that_are_no_numbers(value: onnx.ValueInfoProto, message: str, tmp_path: Path) -> None:
    model = small_model()
    model.graph.input[0].CopyFrom(value)
    model.graph.node[0].CopyFrom(node("Identity", ["image"], ["s0"]))
    with pytest.raises(ModelError, match=message):
        xm.from_onnx(save_proto(model, tmp_path))


def test_text_and_sequences_inside(tmp_path: Path) -> None:
    """As a scikit-learn pipeline ends, in names of classes and a map of probabilities."""
    text = helper.make_node("Constant", [], ["t"], name="text", value_strings=list("abcde"))
    model = ending(
        text, node("Gather", ["t", "best"], ["end"]), node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0)
    )
    model.graph.node.insert(8, model.graph.node.pop())
    with pytest.raises(ModelError, match=r"Constant 'text' cannot be read: a constant holds value_strings"):
        xm.from_onnx(save_proto(model, tmp_path), keep_graph=False)
    model = ending(node("SequenceConstruct", ["logits", "logits"], ["end"]))
    with pytest.raises(
        ModelError, match="SequenceConstruct 'the_SequenceConstruct' cannot be read: the reader has no op"
    ):
        xm.from_onnx(save_proto(model, tmp_path), keep_graph=False)


def test_a_norm_in_training_mode(tmp_path: Path) -> None:
    model = small_model()
    model.graph.node[1].attribute.append(helper.make_attribute("training_mode", 1))
    model.graph.node[1].output.extend(["mean", "var"])
    with pytest.raises(
        ModelError, match="BatchNormalization is in training mode; export the network in evaluation mode"
    ):
        xm.from_onnx(save_proto(model, tmp_path))


def test_a_network_without_places(tmp_path: Path) -> None:
    """It is read; whoever asks for a map hears that no layer has one."""
    nodes = [node("Flatten", ["image"], ["x"]), node("Gemm", ["x", "w"], ["logits"])]
    weight = constant("w", np.random.default_rng(0).normal(size=(768, 5)), np.float32)
    network = xm.from_onnx(save(model_of(nodes, [weight]), tmp_path))
    with pytest.raises(LayerError, match="No layer of OnnxNetwork has a spatial map"):
        xm.ExplainableModel(network)(IMAGE)
    with pytest.raises(ModelError, match="no layer with a map was found to keep the graph up to"):
        xm.from_onnx(tmp_path / "small.onnx", keep_graph=True)


def test_more_than_a_message_can_hold(tmp_path: Path) -> None:
    """Two files of holes, which take no room on the disk."""
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(ModelError, match="2147483649 bytes, more than an ONNX model can have"):
        xm.from_onnx(tmp_path / "large.onnx")
    model = small_model()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.dims[:] = [2**29]
    weight.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", "w.data"), ("length", str(2**31))):
        weight.external_data.add(key=key, value=entry)
    with (tmp_path / "w.data").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(ModelError, match="2147483648 bytes; expected at most 2147483647.*float16"):
        xm.from_onnx(save_proto(model, tmp_path))


def test_a_file_without_an_image(tmp_path: Path) -> None:
    model = model_of([node("Relu", ["image"], ["logits"])], shape=("N", 7))
    with pytest.raises(ModelError, match=r"takes no image: its inputs are image"):
        xm.from_onnx(save(model, tmp_path))


def test_a_wrong_operator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is compared before it is handed over, and the first node that differs is found."""
    wrong = Operator(lambda call, x: x.amax((2, 3), keepdim=True))
    monkeypatch.setitem(OPERATORS, "GlobalAveragePool", wrong)
    with pytest.raises(ModelError, match=r"'logits' differs.*first node.*GlobalAveragePool '/pool/GlobalAveragePool'"):
        xm.from_onnx(save(small_model(), tmp_path))


def test_the_command_compares_node_by_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(save(small_model(), tmp_path))
    assert main(["verify", path, "--nodes"]) == 0
    assert "8 nodes agree within 1e-04" in capsys.readouterr().out
    monkeypatch.setitem(OPERATORS, "GlobalAveragePool", Operator(lambda call, x: x.mean((2, 3), keepdim=True) * 1.01))
    assert main(["verify", path, "--nodes", "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["first"], record["value"]) == ("GlobalAveragePool '/pool/GlobalAveragePool'", "s4")
    assert record["error"] == pytest.approx(0.01, rel=1e-3)
    monkeypatch.setitem(OPERATORS, "GlobalAveragePool", Operator(lambda call, x: x.mean((2, 7), keepdim=True)))
    assert main(["verify", path, "--nodes"]) == 1
    assert "GlobalAveragePool '/pool/GlobalAveragePool' (s4) differs first: it fails" in capsys.readouterr().out
    assert main(["verify", "model.ts", "--nodes"]) == 2


def test_a_small_difference_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read.read(save(small_model(), tmp_path))
    assert found.error < check.TOLERANCE / 10
    monkeypatch.setitem(OPERATORS, "GlobalAveragePool", Operator(lambda call, x: x.mean((2, 3), keepdim=True) * 1.001))
    with pytest.raises(ModelError, match="first node"):
        xm.from_onnx(tmp_path / "small.onnx")
