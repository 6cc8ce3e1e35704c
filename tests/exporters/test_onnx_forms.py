"""Single operators of opset 18 in older and newer opsets, against what ONNX Runtime says of the node as it was."""

from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from explainable_model.errors import LoweringError
from explainable_model.exporters.onnx_forms import NEWER, OLDER
from explainable_model.exporters.onnx_opset import find_problem, known_opsets, write_opset

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.standard_normal((2, 3, 4, 5)).astype(np.float32)
GRID = RANDOM.uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)
WEIGHT = RANDOM.uniform(0.5, 1.5, 5).astype(np.float32)
STATISTICS = [RANDOM.uniform(0.5, 1.5, 3).astype(np.float32) for _ in range(4)]


def whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def model_of(operator: str, inputs: list[Any], outputs: int = 1, flows: int = 1, **attributes: Any) -> onnx.ModelProto:
    """One node of opset 18. The first ``flows`` inputs are the model's, the others are weights."""
    names = [f"in{n}" if value is not None else "" for n, value in enumerate(inputs)]
    node = helper.make_node(operator, names, [f"out{n}" for n in range(outputs)], name="one", **attributes)
    given = [
        helper.make_tensor_value_info(names[n], helper.np_dtype_to_tensor_dtype(inputs[n].dtype), inputs[n].shape)
        for n in range(flows)
    ]
    weights = [numpy_helper.from_array(v, names[n]) for n, v in enumerate(inputs) if n >= flows and v is not None]
    made = [helper.make_empty_tensor_value_info(name) for name in node.output]
    graph = helper.make_graph([node], "graph", given, made, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def convert(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    converted = onnx_ir.from_proto(model)
    write_opset(converted, opset, "Net")
    return onnx_ir.to_proto(converted)


def run(model: onnx.ModelProto, inputs: list[Any], flows: int) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {f"in{n}": inputs[n] for n in range(flows)})


def case(operator: str, *inputs: Any, outputs: int = 1, flows: int = 1, **attributes: Any) -> Any:
    name = "-".join([operator, *(f"{key}_{value}" for key, value in attributes.items())])
    return pytest.param(operator, list(inputs), outputs, flows, attributes, id=name)


CASES = [
    *(case(name, np.abs(IMAGE) + 1, whole(1, -1), keepdims=0) for name in OLDER if name.startswith("Reduce")),
    case("ReduceMean", IMAGE),
    case("ReduceMean", IMAGE, noop_with_empty_axes=1),
    case("ReduceMax", IMAGE, whole(), noop_with_empty_axes=1, keepdims=1),
    case("Split", IMAGE, outputs=2, axis=3, num_outputs=2),
    case("Split", IMAGE, whole(1, 4), outputs=2, axis=-1),
    case("Pad", IMAGE, whole(1, 0, 2, 3), np.float32(0.5), whole(-1, 2)),
    case("Pad", IMAGE, whole(0, 0, 1, 2, 0, 0, 2, 1), mode="reflect"),
    case("Resize", IMAGE, None, np.float32([1, 1, 2, 2]), mode="linear", antialias=0),
    case("Resize", IMAGE, None, None, whole(2, 3, 6, 7), mode="nearest", keep_aspect_ratio_policy="stretch"),
    case("Mish", IMAGE),
    case("LayerNormalization", IMAGE, WEIGHT),
    case("LayerNormalization", IMAGE, np.ones((4, 5), np.float32) * 2, np.float32([3]), axis=2, epsilon=0.25),
    case("LayerNormalization", IMAGE.astype(np.float16) * 100, WEIGHT.astype(np.float16)),
    case("ScatterElements", IMAGE, np.zeros((2, 3, 4, 1), np.int64), IMAGE[..., :1], axis=3, reduction="none"),
    case("ScatterElements", IMAGE, np.zeros((2, 3, 4, 1), np.int64), IMAGE[..., :1], axis=3),
    case("ScatterND", IMAGE, whole(1, 2).reshape(1, 2), IMAGE[:1, 0], reduction="none"),
    case("Shape", IMAGE),
    case("Shape", IMAGE, start=1),
    case("Shape", IMAGE, start=-3, end=-1),
    case("Shape", IMAGE, end=99),
    case("CastLike", IMAGE * 9, whole(1)),
    case("Reshape", IMAGE, whole(6, -1), allowzero=1),
    case("BatchNormalization", IMAGE, *STATISTICS, training_mode=0, epsilon=0.125),
    case("HardSwish", IMAGE * 4),
    *(case("GridSample", IMAGE, GRID, flows=2, mode=mode) for mode in ("bilinear", "nearest", "bicubic")),
    case("GridSample", IMAGE, GRID, flows=2),
]


@pytest.mark.parametrize(("operator", "inputs", "outputs", "flows", "attributes"), CASES)
def test_forms(operator: str, inputs: list[Any], outputs: int, flows: int, attributes: dict[str, Any]) -> None:
    model = model_of(operator, inputs, outputs, flows, **attributes)
    want = run(model, inputs, flows)
    since = (OLDER | NEWER)[operator][0]
    before = since - 1 if operator in OLDER else since
    for opset in sorted({13, before, since} if operator in OLDER else {16, before, known_opsets()[-1]}):
        converted = convert(model, opset)
        onnx.checker.check_model(converted, full_check=True)
        assert converted.opset_import[0].version == opset
        for found, expected in zip(run(converted, inputs, flows), want, strict=True):
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert np.allclose(found, expected, rtol=1e-5 if found.dtype != np.float16 else 2e-3, atol=1e-6), opset


def test_every_form_has_a_case() -> None:
    assert {each.values[0] for each in CASES} == {*OLDER, *NEWER}


@pytest.mark.parametrize(
    ("opset", "message", "operator", "inputs", "attributes"),
    [
        (13, "no Trilu. Export with opset=14 or newer", "Trilu", [IMAGE], {}),
        (17, "no BitwiseAnd. Export with opset=18 or", "BitwiseAnd", [whole(1), whole(3)], {}),
        (17, "no antialiased resizing, which", "Resize", [IMAGE, None, np.float32([1, 1, 0.5, 0.5])],
         {"antialias": 1, "mode": "linear"}),
        (17, "no resizing of some axes", "Resize", [IMAGE, None, np.float32([2, 2])], {"axes": [2, 3]}),
        (15, "no ScatterND with the reduction add. Export with opset=16 or newer", "ScatterND",
         [IMAGE, whole(1, 2).reshape(1, 2), IMAGE[:1, 0]], {"reduction": "add"}),
        (17, "no ScatterND with the reduction max. Export with opset=18", "ScatterND",
         [IMAGE, whole(1, 2).reshape(1, 2), IMAGE[:1, 0]], {"reduction": "max"}),
        (13, "no Relu of int32. Export with opset=14 or newer", "Relu", [np.int32([1, -2])], {}),
    ],
)  # fmt: skip
def test_what_has_no_form(
    opset: int, message: str, operator: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    model = model_of(operator, inputs, **attributes)
    with pytest.raises(LoweringError, match=rf"Net cannot be written in opset {opset}, which has {message}"):
        convert(model, opset)


def test_numbers_that_the_graph_computes() -> None:
    """Axes that are an input of the model can be no attribute."""
    model = model_of("ReduceMean", [IMAGE, whole(1)], flows=2)
    with pytest.raises(LoweringError, match="no axes that the graph computes"):
        convert(model, 17)


def test_a_graph_inside_of_a_node() -> None:
    then = helper.make_graph([helper.make_node("Mish", ["in1"], ["x"])], "then", [], [])
    then.output.append(helper.make_tensor_value_info("x", 1, None))
    model = model_of("If", [np.array(True), IMAGE], flows=2)
    model.graph.node[0].input.pop()
    model.graph.node[0].attribute.extend(helper.make_attribute(f"{name}_branch", then) for name in ("then", "else"))
    with pytest.raises(
        LoweringError, match=r"opset 17, which has no form of If with a graph inside\. Export with opset=18"
    ):
        convert(model, 17)


def test_lists_of_tensors_are_no_tensors() -> None:
    """The type of a list is that of its elements, which no operator of lists has among its types."""
    nodes = [
        helper.make_node("SplitToSequence", ["in0"], ["parts"], axis=1),
        helper.make_node("SequenceAt", ["parts", "first"], ["out"]),
    ]
    given = [helper.make_tensor_value_info("in0", 1, IMAGE.shape)]
    first = [numpy_helper.from_array(np.array(1), "first")]
    graph = helper.make_graph(nodes, "graph", given, [helper.make_empty_tensor_value_info("out")], first)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    converted = convert(onnx.shape_inference.infer_shapes(model), 14)
    assert np.array_equal(run(converted, [IMAGE], 1)[0], IMAGE[:, 1:2])


def test_nodes_of_18_are_of_18() -> None:
    node = onnx_ir.from_proto(model_of("Relu", [IMAGE])).graph[0]
    assert [find_problem(node, opset) for opset in known_opsets()] == [""] * len(known_opsets())
