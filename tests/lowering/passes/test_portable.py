"""The portable profile: its operators and no others, and still the same map."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, LoweredModel, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import InputError, LoweringError
from explainable_model.lowering.passes.portable import ONNX_OPERATORS, OPERATORS, check_portable, unshare_weights
from explainable_model.lowering.passes.portable_forms import FORMS, argmax
from tests.support.cli_run import NAMED, Run
from tests.support.nets import TinyMobileNet, TinyResNet, images, seeded

aten = torch.ops.aten
VALUES = [-torch.inf, -2.0, -1e-6, 0.0, 1e-6, 1.0, 1.0, 2.0]


@pytest.mark.parametrize("op", [aten.gt, aten.lt, aten.ge, aten.le, aten.eq, aten.ne], ids=str)
def test_conditions_are_zeros_and_ones(op: Any) -> None:
    pairs = torch.tensor(list(itertools.product(VALUES, VALUES[1:])))
    left, right = pairs.unbind(1)
    assert torch.equal(FORMS[op.Tensor](left, right), op.Tensor(left, right).float())
    for number in (0, 1, -2.0):
        assert torch.equal(FORMS[op.Scalar](left, number), op.Scalar(left, number).float())


def test_connectives() -> None:
    a, b = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert FORMS[aten.bitwise_and.Tensor](a, b).tolist() == [0, 0, 0, 1]
    assert FORMS[aten.bitwise_or.Tensor](a, b).tolist() == [0, 1, 1, 1]
    assert FORMS[aten.bitwise_not.default](a).tolist() == [1, 1, 0, 0]
    assert FORMS[aten.where.self](a, torch.tensor(5.0), b).tolist() == [0, 1, 5, 5]


def test_argmax_takes_the_first_of_equals() -> None:
    tied = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0], [-5.0, -7.0, -5.0]])
    assert argmax(tied, 1).tolist() == tied.argmax(1).tolist() == [1, 0, 0]
    many = images(4, (1000,))
    assert argmax(many, 1, keepdim=True).tolist() == many.argmax(1, keepdim=True).tolist()
    for dims in ([1], [0], [2, 3], [-1], [0, 2]):
        values = images(2, (3, 4, 5))
        assert torch.equal(FORMS[aten.amax.default](values, dims, True), values.amax(dims, keepdim=True))
        assert torch.equal(FORMS[aten.amin.default](values, dims), values.amin(dims))


def test_rows_and_entries_by_class() -> None:
    matrix, index = images(5, (7,)), torch.tensor([4, 0, 4])
    assert torch.equal(FORMS[aten.index_select.default](matrix, 0, index.float()), matrix[index])
    columns = torch.tensor([[6], [0], [3], [3], [1]])
    assert torch.equal(FORMS[aten.gather.default](matrix, 1, columns.float()), matrix.gather(1, columns))


@pytest.mark.parametrize("dims", [1, 2])
@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "output_padding", "groups"),
    [(2, 1, 1, 1, 1), (2, 1, 1, 0, 2), (3, 0, 1, 2, 1), (2, 2, 2, 1, 1), (1, 1, 1, 0, 1), (2, 0, 1, 0, 1)],
)
def test_transposed_convolutions_have_no_padding(
    dims: int, stride: int, padding: int, dilation: int, output_padding: int, groups: int
) -> None:
    image, weight, bias = images(2, (4, 5, 6)[: dims + 1]), images(4, (3, 3, 3)[: dims + 1]), images(3 * groups, ())
    settings = [[n] * dims for n in (stride, padding, dilation, output_padding)]
    arguments = (image, weight, bias, *settings[:3], True, settings[3], groups)
    want = aten.convolution.default(*arguments)
    assert torch.allclose(FORMS[aten.convolution.default](*arguments), want, atol=1e-5)
    network = {1: aten.conv_transpose1d.default, 2: aten.conv_transpose2d.input}[dims]
    got = FORMS[network](image, weight, bias, settings[0], settings[1], settings[3], groups, settings[2])
    assert torch.allclose(got, want, atol=1e-5)


class StridedPool(nn.Module):
    """What has a long gradient: a strided max pooling, strided convolutions, hard activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.down = nn.Conv2d(6, 8, 3, 2, 1)
        self.same = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        hidden = nn.functional.relu6(self.down(self.pool(torch.relu(self.stem(image)))))
        return self.fc(nn.functional.hardswish(self.same(hidden)).mean((2, 3)))


def checked(explainable: ExplainableModel, size: tuple[int, ...], batch: int = 1) -> LoweredModel:
    """Lowered in the profile: its operators, and its maps for images other than the example."""
    lowered = lower(explainable, images(batch, size), profile="portable")
    for node in lowered.graph_module.graph.nodes:
        if node.op == "call_function":
            assert str(node.target).split(".")[1] in OPERATORS
            integers = [a for a in node.all_input_nodes if not a.meta["val"].is_floating_point()]
            assert all(a.op == "placeholder" for a in integers), "an integer in the graph"
    for seed in (1, 2):
        image = images(batch, size, seed=seed)
        for class_idx in (None, torch.full((batch,), 3)):
            want, got = explainable(image, class_idx), lowered(image, class_idx)
            assert torch.equal(got.class_idx, want.class_idx)
            assert (got.cam - want.cam).abs().max() <= TOLERANCES["float32"].cam
        assert want.cam.max() > 0.5 or want.cam.max() == 0
    return lowered


@pytest.mark.parametrize(
    ("kind", "layer", "batch"), [(StridedPool, "stem", 2), (TinyResNet, "layer1", 1), (TinyMobileNet, "stem", 1)]
)
def test_every_operator_is_portable(kind: type[nn.Module], layer: str, batch: int, tmp_path: Path) -> None:
    import onnx

    explainable = ExplainableModel(seeded(kind()), layer)
    lowered = checked(explainable, (3, 32, 32), batch)
    path = export(lowered, tmp_path / "net.onnx")
    metadata = read_metadata(path)
    assert (metadata.profile, metadata.batch) == ("portable", batch)
    graph = onnx.load(path).graph
    kinds = [node.op_type for node in graph.node]
    assert set(kinds) <= ONNX_OPERATORS
    assert [kinds.count(kind) for kind in ("Resize", "Cast", "ArgMax")] == [1, 1, 1]
    weights = {kind: {n.input[1] for n in graph.node if n.op_type == kind} for kind in ("Conv", "ConvTranspose")}
    assert not weights["Conv"] & weights["ConvTranspose"], "one weight constant for both gives wrong maps in OpenVINO"
    integers = {o for n in graph.node for o in n.output if n.op_type == "ArgMax"}
    assert integers == {"explained_class_idx"}
    image = images(batch, seed=5)
    assert np.abs(load(path)(image).cam - explainable(image).cam.numpy()).max() <= TOLERANCES["float32"].cam


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer2"), ("mobilenetv3_small_100", "blocks.4"), ("tf_efficientnet_lite0", "bn2")],
)
def test_networks_of_timm(name: str, layer: str) -> None:
    torch.manual_seed(0)
    checked(ExplainableModel(timm.create_model(name).eval(), layer), (3, 64, 64))


class Sorting(nn.Module):
    """Sorts on the way to the score."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.conv(image).mean((2, 3)).sort(1).values)


def test_what_has_no_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        LoweringError, match=r"portable profile has no form for .*aten\.sort.*export without the profile"
    ):
        export(ExplainableModel(seeded(Sorting()), "conv"), tmp_path / "net.onnx", images(1), profile="portable")
    assert list(tmp_path.iterdir()) == []


def test_a_shared_weight_is_copied() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, bias=False)

        def forward(self, image: Tensor) -> Tensor:
            arguments = ([1, 1], [0, 0], [1, 1])
            down = aten.convolution.default(image, self.conv.weight, None, *arguments, False, [0, 0], 1)
            return aten.convolution.default(down, self.conv.weight, None, *arguments, True, [0, 0], 1)

    module = torch.fx.symbolic_trace(Shared())
    image = images(1)
    before = module(image)
    unshare_weights(module)
    used = [node.args[1].target for node in module.graph.nodes if node.target is aten.convolution.default]
    assert len(set(used)) == 2
    assert torch.equal(module(image), before)
    check_portable(module)


def test_wrong_requests(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="Unknown profile 'tiny'; known profiles: full, portable"):
        export(explainable, path, images(1), profile="tiny")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="images of one size; got an open height and width"):
        export(explainable, path, images(1), profile="portable", dynamic_size=True)
    with pytest.raises(InputError, match=r"is for float32.*got a network in torch\.float64"):
        lower(ExplainableModel(seeded(TinyResNet()).double(), "layer2"), images(1).double(), profile="portable")
    with pytest.raises(InputError, match="not of the portable profile; lower it with profile='portable'"):
        export(lower(explainable, images(1)), path, profile="portable")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    run = Run(capsys, "export", "--model", NAMED, "--profile", "portable", "-o", path, "--json")
    assert (run.code, run.record["profile"], run.record["batch_rule"]) == (0, "portable", "exactly 1")
    run = Run(capsys, "verify", path)
    assert run.code == 0, run.err
