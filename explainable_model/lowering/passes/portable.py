"""The portable profile: a graph in the few operators that strict runtimes have.

Runtimes for devices lack some operators of a lowered graph, compute them wrongly or crash: 64-bit integers,
comparisons, selections, gathers, expansions, transposed convolutions with padding. The graph is therefore traced once
more, with every size known and **every value a float32 tensor**: a condition is a tensor of zeros and ones, and a class
is a whole number. Only ``class_idx`` is an integer, where it enters and where it is returned. OpenVINO, tract and MNN
were run and compared, LiteRT on one network; ncnn and Core ML were not.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.fx.traceback import preserve_node_meta

from explainable_model.errors import LoweringError
from explainable_model.lowering.graph import add_constant, get_attribute, layer_of
from explainable_model.lowering.passes.portable_forms import FORMS, one_hot

aten = torch.ops.aten

OPERATORS = frozenset(
    {
        # the network's layers
        "conv1d", "conv2d", "conv3d", "convolution", "linear", "matmul", "bmm", "mm", "addmm", "t",
        "batch_norm", "layer_norm", "group_norm", "scaled_dot_product_attention", "softmax", "log_softmax",
        "relu", "relu6", "leaky_relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "tanh",
        "elu", "prelu", "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
        "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "upsample_nearest2d",
        "upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d",
        # arithmetic
        "add", "sub", "rsub", "mul", "div", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "pow", "erf", "reciprocal",
        "clamp", "clamp_min", "clamp_max", "minimum", "maximum", "mean", "sum",
        # arrangement
        "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "cat", "stack",
        "slice", "select", "constant_pad_nd", "dropout", "contiguous",
        # class_idx at the two ends
        "_to_copy", "to", "argmax",
    }
)  # fmt: skip
"""ATen operators that a portable graph may have, whatever their overload."""

ONNX_OPERATORS = frozenset(
    {
        "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization", "GroupNormalization",
        "InstanceNormalization", "Softmax", "LogSoftmax", "Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid",
        "Gelu", "Tanh", "Elu", "PRelu", "Erf", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Add", "Sub",
        "Mul", "Div", "Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Pow", "Clip", "Min", "Max", "ReduceMean",
        "ReduceSum", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat",
        "Slice", "Pad", "Split", "Identity", "Cast", "ArgMax",
    }
)  # fmt: skip
"""ONNX operators that a portable artifact may have; ``Cast`` only of ``class_idx``, ``ArgMax`` only to return it."""


class PortableGraph(nn.Module):
    """Runs a graph in its portable form, so that a trace of it is portable.

    Args:
        network: ``forward(image, class_idx, *inputs) -> (logits, class_idx, cam)``, every size of it known.
        classes: how many can be explained.
    """

    def __init__(self, network: fx.GraphModule, classes: int) -> None:
        super().__init__()
        self.network = network
        self.classes = classes

    def forward(self, image: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with preserve_node_meta():
            logits, explained, cam = _PortableInterpreter(self.network).run(image, class_idx, *inputs)
            # tract reads a conversion to int64 as a size; what an argmax returns is an integer everywhere
            explained = aten.argmax.default(one_hot(explained, self.classes), -1)
        return logits, explained, cam


class _PortableInterpreter(fx.Interpreter):
    """Every operator by its portable form, where it has one, and every tensor as float32."""

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _as_float(super().placeholder(target, args, kwargs))

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return _as_float(super().get_attr(target, args, kwargs))

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target in FORMS:
            return _as_float(FORMS[target](*args, **kwargs))
        if isinstance(target, OpOverload) and _name(target) not in OPERATORS:
            raise not_portable({str(target): ""})
        return _as_float(super().call_function(target, args, kwargs))


def _name(target: Any) -> str:
    return str(target).removeprefix("aten.").partition(".")[0]


def _as_float(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.int64, torch.int32, torch.bool):
        return value.to(torch.float32)
    return value


def unshare_weights(module: fx.GraphModule) -> None:
    """Give each transposed convolution a copy of a shared weight; OpenVINO computes it wrongly from a shared one."""
    readers: Counter[str] = Counter()
    for node in module.graph.nodes:
        if node.op == "get_attr":
            readers[str(node.target)] += len(node.users)
    for node in list(module.graph.nodes):
        if node.target is not aten.convolution.default or not node.args[6]:
            continue
        weight = node.args[1]
        value = get_attribute(module, weight)
        if value is not None and readers[str(weight.target)] > 1:
            with module.graph.inserting_before(node):
                copy = add_constant(module, f"{str(weight.target).replace('.', '_')}_transposed", value.clone())
            node.update_arg(1, copy)
    module.recompile()


def check_portable(module: fx.GraphModule) -> None:
    """Refuse a graph with an operator outside ``OPERATORS``.

    Raises:
        LoweringError: the operators, each with a layer where it is met.
    """
    outside: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and _name(node.target) not in OPERATORS:
            outside.setdefault(str(node.target), layer_of(node))
    if outside:
        raise not_portable(outside)


def not_portable(outside: Mapping[str, str]) -> LoweringError:
    """The error that names every operator outside the profile and the layer where it is met."""
    named = ", ".join(f"{name} (from {layer or 'the explanation'})" for name, layer in outside.items())
    return LoweringError(
        f"The portable profile has no form for {named}. Choose a method or a layer that needs none of it (Grad-CAM at "
        "a convolution, one class at a time), add a row to FORMS in lowering/passes/portable_forms.py, or export "
        "without the profile."
    )
