"""Each operator of the table against ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from explainable_model.networks.onnx.build import Build
from explainable_model.networks.onnx.inputs import GraphInput
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.operators import OPERATORS

Array = NDArray[Any]
NEWER = {"Attention": 23, "RMSNormalization": 23, "Swish": 24, "CumProd": 26, "BitCast": 26}
NOT_IN_THE_RUNTIME = {"CumProd"}  # its oracle is the onnx package, in test_onnx_package.py


@dataclass(frozen=True)
class Example:
    """A node: what the image-dependent inputs are, which come first, and which are constants."""

    operator: str
    flow: Sequence[Any]
    constants: Sequence[Any] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 18
    outputs: int = 1

    def __str__(self) -> str:
        return f"{self.operator}{self.opset}-{'-'.join(f'{k}_{v}' for k, v in self.attributes.items())}"[:80]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(normal(*shape)) + np.float32(0.5)


def share(*shape: int) -> Array:
    return np.random.default_rng(1).uniform(-0.9, 0.9, shape).astype(np.float32)


def whole(*values: Any) -> Array:
    return np.array(values, dtype=np.int64)


def some_bools(*shape: int) -> Array:
    return normal(*shape) > 0


def integers(*shape: int) -> Array:
    return np.random.default_rng(2).integers(0, 9, shape)


def ex(
    operator: str, *flow: Any, c: Sequence[Any] = (), opset: int = 0, outputs: int = 1, **attributes: Any
) -> Example:
    return Example(operator, flow, c, attributes, opset or NEWER.get(operator, 18), outputs)


X = normal(2, 4, 6, 5)
EMPTY = np.float32([])
AT = "coordinate_transformation_mode"
ELEMENTARY = [
    "Abs", "Asinh", "Atan", "Ceil", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Hardmax",
    "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "LogSoftmax", "Mish", "Neg", "Relu", "Round", "Selu", "Shrink", "Sigmoid",
    "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Cosh", "Dropout",
]  # fmt: skip
COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
REDUCTIONS = [name for name in OPERATORS if name.startswith("Reduce")]
NORM = [positive(4), normal(4, seed=1), normal(4, seed=2), positive(4)]

EXAMPLES = [
    *(ex(name, X) for name in ELEMENTARY),
    *(ex(name, share(2, 3)) for name in ("Acos", "Asin", "Atanh")),
    *(ex(name, positive(2, 3)) for name in ("Log", "Reciprocal", "Sqrt")),
    ex("Acosh", positive(2, 3) + 1),
    ex("Gelu", X, opset=20), ex("Gelu", X, opset=20, approximate="tanh"), ex("Swish", X), ex("Swish", X, alpha=0.5),
    ex("HardSigmoid", X, alpha=1 / 6, beta=0.5), ex("Selu", X, alpha=1.5, gamma=2.0), ex("LeakyRelu", X, alpha=0.3),
    ex("IsInf", np.array([[np.inf, -np.inf, 1]], dtype=np.float32), detect_negative=0),
    ex("Softmax", X, axis=1), ex("Softmax", X, axis=1, opset=11), ex("LogSoftmax", X, axis=3, opset=11),
    ex("Hardmax", X, axis=1, opset=11), ex("PRelu", X, c=[positive(4, 1, 1)]), ex("PRelu", X, c=[positive(1)]),
    ex("PRelu", X, c=[positive(5)]), ex("Clip", X, c=[np.float32(-0.5), np.float32(0.5)]),
    ex("Clip", X, c=[np.float32(0), np.float32(6)]), ex("Clip", X, opset=6 + 1, min=-0.2, max=0.3), ex("Clip", X),
    ex("Not", some_bools(2, 3)), ex("BitwiseNot", integers(2, 3)),
    *(ex(name, X, normal(2, 4, 6, 5, seed=1)) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Mean", "Sum")),
    *(ex(name, X, c=[np.float32(2)]) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")),
    *(ex(name, X, c=[normal(5)]) for name in ("Add", "Sub", "Mul", "Div")), ex("Pow", positive(2, 3), normal(2, 3)),
    ex("Max", X, normal(5), normal(2, 1, 1, 5)), ex("Div", integers(2, 3) - 4, c=[whole(3)]),
    *(ex(name, integers(2, 3), integers(3)) for name in COMPARISONS),
    *(ex(name, some_bools(2, 3), some_bools(3)) for name in ("And", "Or", "Xor")),
    *(ex(name, integers(2, 3), integers(3)) for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    ex("BitShift", integers(2, 3).astype(np.uint8), c=[np.array(2, dtype=np.uint8)], direction="LEFT"),
    ex("Mod", integers(2, 3) - 4, c=[whole(3)]), ex("Mod", X, c=[np.float32(0.7)], fmod=1),
    ex("Where", some_bools(2, 3), normal(2, 3), c=[np.float32(-1)]),
    ex("Conv", X, c=[normal(6, 4, 3, 3)], pads=[1, 1, 1, 1]),
    ex("Conv", X, c=[normal(6, 4, 3, 3), normal(6)], pads=[1, 0, 0, 2]),
    ex("Conv", X, c=[normal(8, 2, 3, 2)], group=2, strides=[2, 1], dilations=[1, 2]),
    *(ex("Conv", X, c=[normal(6, 4, 3, 2)], strides=[2, 2], auto_pad=how)
      for how in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    ex("Conv", X, normal(6, 4, 3, 3), pads=[1, 1, 1, 1]), ex("Conv", normal(1, 2, 9), c=[normal(3, 2, 4)], pads=[2, 1]),
    ex("Conv", normal(1, 2, 4, 5, 4), c=[normal(3, 2, 2, 2, 2)]),
    ex("ConvTranspose", X, c=[normal(4, 3, 3, 3), normal(3)], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    ex("ConvTranspose", X, c=[normal(4, 3, 3, 3), normal(3)], strides=[2, 2], pads=[0, 1, 1, 0]),
    ex("ConvTranspose", X, c=[normal(4, 3, 3, 3)], strides=[2, 2], output_shape=[12, 10]),
    ex("ConvTranspose", X, c=[normal(4, 3, 3, 3)], strides=[2, 2], auto_pad="SAME_UPPER"),
    ex("MaxPool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ex("MaxPool", X, kernel_shape=[3, 2], strides=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1),
    ex("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
    ex("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 2]),
    ex("AveragePool", X, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ex("AveragePool", X, kernel_shape=[3, 3], pads=[1, 0, 0, 1], count_include_pad=1),
    ex("AveragePool", X, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1], ceil_mode=1),
    ex("AveragePool", X, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    ex("LpPool", X, kernel_shape=[2, 2], p=3),
    *(ex(name, X) for name in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    ex("GlobalAveragePool", normal(2, 3, 5)),
    ex("Gemm", normal(2, 3), c=[normal(3, 4), normal(4)]),
    ex("Gemm", normal(2, 3), c=[normal(4, 3), normal(1)], transB=1),
    ex("Gemm", normal(3, 2), c=[normal(3, 4), normal(2, 4)], transA=1, alpha=0.5, beta=2.0),
    ex("Gemm", normal(2, 3), c=[normal(3, 4)]),
    ex("MatMul", X, c=[normal(5, 3)]), ex("MatMul", X, normal(2, 4, 5, 3)), ex("MatMul", normal(2, 3), c=[normal(3)]),
    ex("Einsum", normal(2, 3, 4), normal(2, 4, 5), equation="bij,bjk->bik"),
    ex("Attention", *(normal(1, 2, 5, 4, seed=i) for i in range(3))),
    ex("Attention", *(normal(1, 5, 8, seed=i) for i in range(3)), q_num_heads=2, kv_num_heads=2, scale=0.3),
    ex("BatchNormalization", X, c=NORM, epsilon=1e-3), ex("BatchNormalization", normal(2, 4), c=NORM),
    ex("InstanceNormalization", X, c=NORM[:2]), ex("LayerNormalization", X, c=[positive(5), normal(5)]),
    ex("LayerNormalization", X, c=[positive(6, 5)], axis=2),
    ex("GroupNormalization", X, c=[positive(2), normal(2)], num_groups=2),
    ex("GroupNormalization", X, c=NORM[:2], num_groups=2, opset=21), ex("RMSNormalization", X, c=[positive(5)]),
    ex("LRN", X, size=3, alpha=0.5), ex("LpNormalization", X, axis=1),
    ex("LpNormalization", X, p=1),
    ex("MeanVarianceNormalization", X),
    *(ex(name, positive(2, 3, 4), c=[whole(1)], opset=18, keepdims=0) for name in REDUCTIONS),
    *(ex(name, positive(2, 3, 4), opset=11, axes=[-1, 1]) for name in REDUCTIONS if name != "ReduceSum"),
    ex("ReduceSum", X, c=[whole()], noop_with_empty_axes=1), ex("ReduceMean", X),
    ex("ArgMax", X, axis=1), ex("ArgMin", X, axis=2, keepdims=0),
    ex("ArgMax", np.ones((2, 3), np.float32), axis=1, select_last_index=1),
    ex("TopK", X, c=[whole(2)], axis=1, outputs=2), ex("CumSum", X, c=[np.array(1)], reverse=1, exclusive=1),
    ex("CumSum", X, c=[np.array(-1)]),
    ex("CumProd", X, c=[np.array(1)]),
    ex("Reshape", X, c=[whole(0, -1, 10)]), ex("Flatten", X), ex("Flatten", X, axis=0), ex("Flatten", X, axis=-1),
    ex("Transpose", X),
    ex("Transpose", X, perm=[0, 2, 3, 1]), ex("Squeeze", normal(2, 1, 3, 1), c=[whole(-1)]),
    ex("Squeeze", normal(2, 1, 3, 1)),
    ex("Squeeze", normal(2, 1, 3), opset=11, axes=[1]), ex("Unsqueeze", normal(2, 3), c=[whole(0, -1)]),
    ex("Unsqueeze", normal(2, 3), opset=11, axes=[1]),
    ex("Concat", X, normal(2, 3, 6, 5), axis=1), ex("Concat", X, X, axis=-1),
    ex("Split", X, c=[whole(1, 3)], axis=1, outputs=2),
    ex("Split", X, axis=3, outputs=2, num_outputs=2), ex("Split", X, axis=1, outputs=2, opset=11),
    ex("Split", X, axis=1, outputs=2, opset=11, split=[3, 1]),
    ex("Slice", X, c=[whole(1, -3), whole(2**62, 2), whole(1, 3), whole(1, 2)]),
    ex("Slice", X, c=[whole(-1), whole(-(2**63)), whole(2), whole(-2)]),
    ex("Slice", X, opset=9, starts=[1], ends=[3], axes=[2]), ex("Expand", normal(2, 1, 3), c=[whole(4, 1)]),
    ex("Tile", normal(2, 3), c=[whole(2, 1)]),
    ex("Pad", X, c=[whole(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)]),
    ex("Pad", X, c=[whole(0, 1, 0, 0, 0, 2, 0, 0)], mode="edge"),
    *(ex("Pad", X, c=[whole(0, 0, 1, 2, 0, 0, 2, 1)], mode=mode) for mode in ("reflect", "edge")),
    ex("Pad", X, opset=7, pads=[0, 0, 1, 1, 0, 0, 1, 1]),
    ex("Pad", X, c=[whole(0, 0, 1, 2, 0, 0, 2, 1)], mode="wrap", opset=19), ex("Shape", X),
    ex("Shape", X, start=1, end=-1), ex("Size", X),
    ex("DepthToSpace", X, blocksize=2), ex("DepthToSpace", X, blocksize=2, mode="CRD"),
    ex("SpaceToDepth", normal(1, 2, 4, 6), blocksize=2),
    ex("Trilu", X, c=[np.array(1)]), ex("Trilu", X, upper=0), ex("EyeLike", normal(3, 4), k=1),
    ex("Cast", X, to=TensorProto.INT64), ex("CastLike", X, c=[whole(1)]),
    ex("Gather", X, c=[whole(1, -1)], axis=1), ex("Gather", X, c=[np.array(0)], axis=-1),
    ex("Gather", X, c=[np.array([[0, 1], [2, -1]])], axis=2),
    ex("GatherElements", X, c=[np.zeros((2, 4, 6, 2), np.int64) - 1], axis=3),
    ex("GatherND", X, c=[np.array([[0, 1], [1, 2]])]),
    ex("GatherND", X, c=[np.array([[1], [2]])], batch_dims=1),
    ex("OneHot", integers(2, 3) - 2, c=[whole(6), np.array([0.0, 2.0], np.float32)], axis=1),
    ex("ScatterElements", normal(3, 4), c=[np.array([[0, 2]]), normal(1, 2)], axis=1),
    ex("ScatterElements", normal(3, 4), c=[np.array([[0, 0]]), normal(1, 2)], axis=0, reduction="add"),
    ex("Scatter", normal(3, 4), c=[np.array([[0, 2]]), normal(1, 2)], axis=1, opset=9),
    ex("ScatterND", X, c=[np.array([[0, 1], [1, 2]]), normal(2, 6, 5)]),
    ex("ScatterND", X, c=[np.array([[0, 1], [0, 1]]), normal(2, 6, 5)], reduction="add"),
    ex("Resize", X, c=[EMPTY, EMPTY, whole(2, 4, 9, 8)], mode="linear"),
    ex("Resize", X, c=[EMPTY, EMPTY, whole(2, 4, 9, 8)], mode="linear", **{AT: "align_corners"}),
    ex("Resize", X, c=[EMPTY, EMPTY, whole(2, 4, 9, 8)], mode="linear", **{AT: "asymmetric"}),
    ex("Resize", X, c=[EMPTY, EMPTY, whole(2, 4, 9, 8)], mode="cubic"),
    ex("Resize", X, c=[EMPTY, np.float32([1, 1, 1.5, 1.7])], mode="linear"),
    *(ex("Resize", X, c=[EMPTY, np.float32([1, 1, 2, 3])], mode="nearest", nearest_mode=near, **{AT: how})
      for how in ("asymmetric", "half_pixel", "align_corners") for near in ("floor", "round_prefer_floor", "ceil")),
    ex("Resize", X, c=[np.float32([1, 1, 2, 2])], mode="nearest", opset=10),
    ex("Upsample", X, c=[np.float32([1, 1, 2, 2])], opset=9),
    ex("Upsample", X, opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode="linear"),
    ex("GridSample", X, c=[share(2, 3, 3, 2)], opset=20),
    ex("GridSample", X, c=[share(2, 3, 3, 2)], mode="nearest", padding_mode="border", align_corners=1),
    ex("AffineGrid", normal(2, 2, 3), c=[whole(2, 3, 4, 5)], opset=20),
    ex("ConstantOfShape", c=[whole(2, 3)], value=numpy_helper.from_array(np.float32([2.0]))),
    ex("Range", c=[np.array(1), np.array(7), np.array(2)]),
    ex("DequantizeLinear", integers(2, 3).astype(np.int8), c=[np.float32(0.1), np.int8(3)]),
    ex("MatMulInteger", integers(2, 3).astype(np.uint8), c=[integers(3, 4).astype(np.int8), np.uint8(2), np.int8(1)]),
    ex("MatMulInteger", integers(2, 3).astype(np.uint8), c=[integers(3, 4).astype(np.uint8)]),
    ex("DequantizeLinear", integers(2, 3).astype(np.uint8), c=[positive(3), np.uint8([1, 2, 3])], axis=1),
]  # fmt: skip


def make_model(example: Example) -> onnx.ModelProto:
    flow = [np.asarray(value) for value in example.flow]
    names = [f"x{i}" for i in range(len(flow))]
    constants = [np.asarray(value) for value in example.constants]
    initializers = [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(constants)]
    outputs = [f"y{i}" for i in range(example.outputs)]
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in zip(names, flow, strict=True)
    ]
    node = helper.make_node(example.operator, [*names, *(t.name for t in initializers)], outputs, **example.attributes)
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=name) for name in outputs], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", example.opset)], ir_version=10)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if e.operator not in NOT_IN_THE_RUNTIME], ids=str)
def test_an_operator_is_that_of_onnx_runtime(example: Example) -> None:
    model = make_model(example)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    flow = {f"x{i}": np.asarray(value) for i, value in enumerate(example.flow)}
    expected = session.run(None, flow)
    build = Build(example.opset, None)
    build.read(model.graph)
    names = [f"y{i}" for i in range(example.outputs)]
    tensors = [torch.from_numpy(np.array(value)) for value in flow.values()]
    if tensors:
        inputs = [GraphInput(name, (), tensor.dtype) for name, tensor in zip(flow, tensors, strict=True)]
        found = OnnxNetwork(build, inputs, names, None, False, {})(*tensors)
        got = list(found.values()) if isinstance(found, dict) else [found]
    else:
        got = [torch.as_tensor(build.constants[name]) for name in names]
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_every_operator_has_an_example() -> None:
    elsewhere = {"QuantizeLinear", "DynamicQuantizeLinear"}  # give numbers for integers: test_onnx_integers.py
    assert set(OPERATORS) - {example.operator for example in EXAMPLES} == elsewhere
