"""Norms and activations in small operators become one layer, where they are exactly that."""

from pathlib import Path

import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import explainable_model as xm
from tests.support.onnx_files import constant, model_of, save

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Tokens(nn.Module):
    """Patches, a norm over their channels, GELU, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.norm, self.fc = nn.Conv2d(3, 8, 4, stride=4), nn.LayerNorm(8), nn.Linear(8, 5)
        nn.init.normal_(self.norm.weight), nn.init.normal_(self.norm.bias)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.norm(self.patches(image).permute(0, 2, 3, 1))
        return self.fc(nn.functional.gelu(tokens).mean((1, 2)))


def token_model(epsilon: float = 1e-5, half: float = 0.5, axis: int = -1, tap: bool = False) -> onnx.ModelProto:
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "patches.weight", "patches.bias"], ["p"], strides=[4, 4], name="/patches/Conv"),
        make("Transpose", ["p"], ["x"], perm=[0, 2, 3, 1]),
        make("ReduceMean", ["x"], ["mean"], axes=[axis]),
        make("Sub", ["x", "mean"], ["d"]),
        make("Pow", ["d", "two"], ["square"]),
        make("ReduceMean", ["square"], ["var"], axes=[-1]),
        make("Add", ["var", "epsilon"], ["shifted"]),
        make("Sqrt", ["shifted"], ["root"]),
        make("Div", ["d", "root"], ["normed"]),
        make("Mul", ["normed", "norm.weight"], ["scaled"]),
        make("Add", ["scaled", "norm.bias"], ["n"], name="/norm/Add_1"),
        make("Div", ["n", "root2"], ["r"]),
        make("Erf", ["r"], ["e"]),
        make("Add", ["e", "one"], ["a"]),
        make("Mul", ["n", "a"], ["m"]),
        make("Mul", ["m", "half"], ["g"], name="/gelu/Mul_1"),
        make("ReduceMean", ["g"], ["pooled"], axes=[1, 2], keepdims=0),
        make("Gemm", ["pooled", "fc.weight", "fc.bias"], ["logits"], transB=1),
    ]
    numbers = {"two": 2, "epsilon": epsilon, "root2": 2**0.5, "one": 1, "half": half}
    weights = [constant(name, value, "float32") for name, value in numbers.items()]
    weights += [constant(name, value.numpy(), "float32") for name, value in Tokens().state_dict().items()]
    return model_of(nodes, weights, outputs=("logits", "normed") if tap else ("logits",), opset=14)


def kinds(network: nn.Module) -> set[str]:
    return {type(layer).__name__ for layer in network.children()}


def test_they_are_one_layer_each(tmp_path: Path) -> None:
    network = xm.from_onnx(save(token_model(), tmp_path))
    assert {"LayerNorm", "Gelu"} <= kinds(network)
    assert not {"Erf", "Sqrt", "Pow", "Sub"} & kinds(network)
    torch.testing.assert_close(network(IMAGE), Tokens()(IMAGE), atol=1e-6, rtol=1e-6)
    ours, theirs = xm.ExplainableModel(network, "norm")(IMAGE), xm.ExplainableModel(Tokens(), "norm")(IMAGE)
    torch.testing.assert_close(ours.cam, theirs.cam, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changed", "left"), [({"half": 0.51}, "Erf"), ({"axis": 1}, "Sqrt"), ({"tap": True}, "Sqrt")], ids=str
)
def test_what_only_looks_like_it_stays(changed: dict[str, float], left: str, tmp_path: Path) -> None:
    assert left in kinds(xm.from_onnx(save(token_model(**changed), tmp_path)))  # type: ignore[arg-type]


def test_the_epsilon_is_the_file_s(tmp_path: Path) -> None:
    network = xm.from_onnx(save(token_model(epsilon=0.1), tmp_path))
    norm = next(layer for layer in network.children() if isinstance(layer, nn.LayerNorm))
    assert norm.eps == pytest.approx(0.1)
