"""Activations and attention in small operators become one layer, where they are exactly that."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

import explainable_model as xm
from tests.support.onnx_files import constant, model_of, save

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
Nodes = list[onnx.NodeProto]
NUMBERS = {
    "half": 0.5, "one": 1, "three": 3, "six": 6, "sixth": 1 / 6, "zero": 0, "root2": 2**0.5, "by_root2": 2**-0.5,
    "scale": 8**-0.5, "root_scale": 8**-0.25,
}  # fmt: skip
make = helper.make_node


class Activated(nn.Module):
    """A convolution, an activation and a mean."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.activation = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 5), activation
        self.end = nn.Identity()
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.fc(self.end(self.activation(4 * self.conv(image))).mean((2, 3)))
        return found


def write(nodes: Nodes, folder: Path, weights: nn.Module, opset: int = 17, outputs: Sequence[str] = ()) -> Path:
    """A file of ``nodes``, which make ``y`` of the convolution ``x``."""
    ends = [make("ReduceMean", ["y"], ["pooled"], axes=[2, 3], keepdims=0)]
    ends += [make("Gemm", ["pooled", "fc.weight", "fc.bias"], ["logits"], transB=1)]
    begins = [make("Conv", ["image", "conv.weight", "conv.bias"], ["c"], strides=[2, 2])]
    begins += [make("Mul", ["c", "four"], ["x"])]
    stored = [constant(name, value, "float32") for name, value in {**NUMBERS, "four": 4}.items()]
    stored += [constant(name, value.numpy(), "float32") for name, value in weights.state_dict().items()]
    return save(model_of([*begins, *nodes, *ends], stored, outputs=("logits", *outputs), opset=opset), folder)


def kinds(network: nn.Module) -> set[str]:
    return {type(layer).__name__ for layer in network.children()}


GATE = [make("Add", ["x", "three"], ["a"]), make("Clip", ["a", "zero", "six"], ["r"])]
ERF = [make("Div", ["x", "root2"], ["d"]), make("Erf", ["d"], ["e"]), make("Add", ["e", "one"], ["p"])]
FORMS: dict[str, tuple[str, Callable[[Tensor], Tensor], Nodes]] = {
    "hard sigmoid times x": (
        "HardSwish", F.hardswish, [make("HardSigmoid", ["x"], ["g"], alpha=1 / 6), make("Mul", ["g", "x"], ["y"])]
    ),
    "x times the ramp, by 6": (
        "HardSwish", F.hardswish, [*GATE, make("Mul", ["x", "r"], ["m"]), make("Div", ["m", "six"], ["y"])]
    ),
    "x times the ramp by 6": (
        "HardSwish", F.hardswish, [*GATE, make("Mul", ["r", "sixth"], ["g"]), make("Mul", ["x", "g"], ["y"])]
    ),
    "the ramp by 6": ("HardSigmoid", F.hardsigmoid, [*GATE, make("Div", ["r", "six"], ["y"])]),
    "a clipped line": (
        "HardSigmoid",
        F.hardsigmoid,
        [
            make("Mul", ["x", "sixth"], ["s"]), make("Add", ["s", "half"], ["a"]),
            make("Clip", ["a", "zero", "one"], ["y"]),
        ],
    ),
    "a line, clipped, times x": (
        "HardSwish",
        F.hardswish,
        [
            make("Div", ["x", "six"], ["s"]), make("Add", ["half", "s"], ["a"]),
            make("Clip", ["a", "zero", "one"], ["g"]), make("Mul", ["x", "g"], ["y"]),
        ],
    ),
    "sigmoid times x": ("Swish", F.silu, [make("Sigmoid", ["x"], ["g"]), make("Mul", ["x", "g"], ["y"])]),
    "half of x": ("Gelu", F.gelu, [*ERF, make("Mul", ["x", "half"], ["h"]), make("Mul", ["h", "p"], ["y"])]),
    "half of the rest": ("Gelu", F.gelu, [*ERF, make("Mul", ["half", "p"], ["h"]), make("Mul", ["x", "h"], ["y"])]),
    "half of all": ("Gelu", F.gelu, [*ERF, make("Mul", ["p", "x"], ["h"]), make("Mul", ["h", "half"], ["y"])]),
    "a product with the root": (
        "Gelu",
        F.gelu,
        [
            make("Mul", ["x", "by_root2"], ["d"]), *ERF[1:], make("Mul", ["x", "half"], ["h"]),
            make("Mul", ["h", "p"], ["y"]),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_an_activation_is_one_layer(form: str, tmp_path: Path) -> None:
    kind, activation, nodes = FORMS[form]
    theirs = Activated(activation)
    network = xm.from_onnx(write(nodes, tmp_path, theirs))  # compared with ONNX Runtime
    assert kind in kinds(network)
    assert not {"Sigmoid", "Clip", "Erf", "Add", "Div"} & kinds(network)
    torch.testing.assert_close(network(IMAGE), theirs(IMAGE), atol=1e-5, rtol=1e-5)
    ours = xm.ExplainableModel(network, "y")(IMAGE).cam
    torch.testing.assert_close(ours, xm.ExplainableModel(theirs, "end")(IMAGE).cam, atol=1e-5, rtol=1e-5)


ALMOST: dict[str, tuple[str, Nodes]] = {
    "another slope": ("HardSigmoid", [make("HardSigmoid", ["x"], ["g"]), make("Mul", ["g", "x"], ["y"])]),
    "another gate": ("Sigmoid", [make("Sigmoid", ["c"], ["g"]), make("Mul", ["x", "g"], ["y"])]),
    "another bound": (
        "Clip",
        [
            make("Add", ["x", "three"], ["a"]), make("Clip", ["a", "one", "six"], ["r"]),
            make("Mul", ["x", "r"], ["m"]), make("Div", ["m", "six"], ["y"]),
        ],
    ),
    "six by it": ("Clip", [*GATE, make("Div", ["six", "r"], ["y"])]),
    "another root": (
        "Erf",
        [
            make("Mul", ["x", "half"], ["d"]), *ERF[1:], make("Mul", ["x", "half"], ["h"]),
            make("Mul", ["h", "p"], ["y"]),
        ],
    ),
    "x of another place": (
        "Erf", [*ERF, make("Mul", ["c", "half"], ["h"]), make("Mul", ["h", "p"], ["y"])]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALMOST)
def test_what_is_almost_an_activation_stays(case: str, tmp_path: Path) -> None:
    left, nodes = ALMOST[case]
    if case == "six by it":  # a ramp that is nowhere zero
        nodes = [make("Abs", ["x"], ["b"]), make("Add", ["b", "three"], ["a"]), *nodes[1:]]
    assert left in kinds(xm.from_onnx(write(nodes, tmp_path, Activated(F.relu))))


def test_a_value_that_others_read_stays(tmp_path: Path) -> None:
    nodes = [make("Sigmoid", ["x"], ["g"]), make("Mul", ["x", "g"], ["y"])]
    network = xm.from_onnx(write(nodes, tmp_path, Activated(F.silu), outputs=["g"]))
    assert "Sigmoid" in kinds(network)
    assert set(network(IMAGE)) == {"logits", "g"}


class Attending(nn.Module):
    """Attention among the places of a convolution, with two heads."""

    def __init__(self, mask: Tensor | None) -> None:
        super().__init__()
        self.mask = mask
        torch.manual_seed(0)
        self.conv, self.fc, self.end = nn.Conv2d(3, 16, 3, stride=2), nn.Linear(16, 5), nn.Identity()
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        places = 4 * self.conv(image)
        heads = places.flatten(2).unflatten(1, (2, 8)).transpose(2, 3)
        found = F.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.mask)
        logits: Tensor = self.fc(self.end(found.transpose(2, 3).reshape(places.shape)).mean((2, 3)))
        return logits


HEADS = [
    make("Reshape", ["x", "heads"], ["h"]), make("Transpose", ["h"], ["q"], perm=[0, 1, 3, 2]),
    make("Transpose", ["h"], ["v"], perm=[0, 1, 3, 2]),
]  # fmt: skip
TAIL = [
    make("MatMul", ["p", "v"], ["o"], name="/attention/MatMul_1"), make("Transpose", ["o"], ["t"], perm=[0, 1, 3, 2]),
    make("Reshape", ["t", "places"], ["y"]),
]  # fmt: skip
SCORES: dict[str, Nodes] = {
    "both scaled": [
        make("Mul", ["q", "root_scale"], ["qs"]), make("Mul", ["root_scale", "h"], ["ks"]),
        make("MatMul", ["qs", "ks"], ["s"]),
    ],
    "query divided": [make("Div", ["q", "by_scale"], ["qs"]), make("MatMul", ["qs", "h"], ["s"])],
    "scores scaled": [make("MatMul", ["q", "h"], ["m"]), make("Mul", ["m", "scale"], ["s"])],
}  # fmt: skip


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", SCORES)
def test_attention_is_one_layer(form: str, masked: bool, tmp_path: Path) -> None:
    mask = torch.randn(1, 2, 49, 49, generator=torch.Generator().manual_seed(2)) if masked else None
    theirs = Attending(mask)
    nodes = [*HEADS, *SCORES[form], *([make("Add", ["s", "mask"], ["sm"])] if masked else [])]
    path = write([*nodes, make("Softmax", ["sm" if masked else "s"], ["p"], axis=-1), *TAIL], tmp_path, theirs)
    model = onnx.load(path)
    added = {"heads": [0, 2, 8, 49], "places": [0, 16, 7, 7]}
    model.graph.initializer.extend(constant(name, value) for name, value in added.items())
    model.graph.initializer.append(constant("by_scale", 8**0.5, "float32"))
    model.graph.initializer.extend([] if mask is None else [constant("mask", mask.numpy(), "float32")])
    network = xm.from_onnx(save(model, tmp_path))
    assert "ScaledDotProductAttention" in kinds(network)
    assert not {"Softmax", "AttentionSoftmax", "MatMul"} & kinds(network)
    torch.testing.assert_close(network(IMAGE), theirs(IMAGE), atol=1e-5, rtol=1e-5)
    ours = xm.ExplainableModel(network, "y")(IMAGE).cam
    torch.testing.assert_close(ours, xm.ExplainableModel(theirs, "end")(IMAGE).cam, atol=1e-5, rtol=1e-5)
    again = xm.ExplainableModel(network, "x")(IMAGE).cam  # through the gradient of attention
    expected = xm.ExplainableModel(theirs, "conv")(IMAGE).cam
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=1e-5)


def test_a_computed_mask_and_other_axes_stay(tmp_path: Path) -> None:
    for number, (softmax, nodes) in enumerate(
        {1: SCORES["scores scaled"], -1: [*SCORES["scores scaled"], make("Add", ["s", "m"], ["s2"])]}.items()
    ):
        (folder := tmp_path / str(number)).mkdir()
        last = nodes[-1].output[0]
        whole = [*HEADS, *nodes, make("Softmax", [last], ["p"], axis=softmax), *TAIL]
        path = write(whole, folder, Attending(None))
        model = onnx.load(path)
        added = {"heads": [0, 2, 8, 49], "places": [0, 16, 7, 7]}
        model.graph.initializer.extend(constant(name, value, np.int64) for name, value in added.items())
        assert "AttentionSoftmax" in kinds(xm.from_onnx(save(model, folder)))
