"""The lowered graph against the eager module, and what lowering refuses."""

import copy
import operator

import pytest
import torch
from torch import nn

from explainable_model import LOWERINGS, ExplainableModel, LoweredModel, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import InputError, LayerError, LoweringError, ModelError
from explainable_model.exporters.torchscript import script
from explainable_model.lowering.capture.export import capture, graph_of, quiet_export
from explainable_model.lowering.capture.functionalize import functionalize
from explainable_model.lowering.dynamic_shapes import DynamicDims
from tests.support.nets import Case, TinyMobileNet, TinyResNet, TinyViT, XrayClassifier, images, seeded
from tests.test_model_input import Cut
from tests.test_model_networks import InPlaceAfter, NoGradLayer, PassThrough, Recurrent

aten = torch.ops.aten


def assert_same(lowered: LoweredModel, explainable: ExplainableModel, image: torch.Tensor) -> None:
    want, got = explainable(image), lowered(image)
    tolerance = TOLERANCES[str(image.dtype).removeprefix("torch.")]
    assert (want.cam > 0).any(), "a map of zeros would prove nothing"
    assert torch.equal(got.class_idx, want.class_idx)
    assert (got.logits - want.logits).abs().max() <= tolerance.logits * want.logits.abs().max()
    assert (got.cam - want.cam).abs().max() <= tolerance.cam * max(1.0, float(want.cam.abs().max()))


@pytest.mark.parametrize(("where", "normalize"), [("last", True), ("early", False)])
def test_equals_eager(case: Case, network: nn.Module, where: str, normalize: bool) -> None:
    explainable = ExplainableModel(network.double(), getattr(case, where), normalize=normalize, upsample=normalize)
    lowered = lower(explainable, images(1, case.size).double())
    for batch in (1, 2, 7):
        assert_same(lowered, explainable, images(batch, case.size, seed=batch).double())
    classes = torch.tensor([1, -1, 0])
    image = images(3, case.size, seed=9).double()
    assert torch.allclose(lowered(image, classes).cam, explainable(image, classes).cam, atol=1e-10)
    assert lowered(image, classes).class_idx.tolist() == explainable(image, classes).class_idx.tolist()


def test_graph_is_forward_only(case: Case, network: nn.Module) -> None:
    graph = lower(ExplainableModel(network, case.early), images(2, case.size)).graph_module.graph
    targets = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert targets
    assert not [target for target in targets if "backward" in target or "tap" in target or "_assert" in target]
    assert {node.op for node in graph.nodes} == {"placeholder", "get_attr", "call_function", "output"}


def test_head_is_the_plain_export() -> None:
    network = seeded(TinyResNet())
    with quiet_export():
        plain = graph_of(torch.export.export(network, (images(2),), strict=False))
    assert functionalize(plain.graph)
    lowered = lower(ExplainableModel(network, "layer2"), images(2)).graph_module
    head = [n.target for n in plain.graph.nodes if n.op == "call_function" and n.target is not aten.batch_norm.default]
    ours = [n.target for n in lowered.graph.nodes if n.op == "call_function" and "sym_size" not in str(n.target)]
    relaxed = [aten.reshape.default if target is aten.view.default else target for target in head]
    assert ours[: len(head)] == relaxed, "operator by operator, but for batch norm, which is folded"


def test_nodes_are_named_after_their_layers() -> None:
    graph = lower(ExplainableModel(seeded(TinyResNet()), "layer1"), images(2)).graph_module.graph
    names = [node.name for node in graph.nodes]
    assert "layer1_conv1_conv2d" in names
    assert any(name.startswith("layer2_conv2_conv2d_") for name in names), "the gradient carries the name as well"
    assert "layer1_conv1_folded_weight" in {node.target for node in graph.nodes}


def test_weights_are_not_stored_twice() -> None:
    network = seeded(TinyResNet())
    lowered = lower(ExplainableModel(network, "layer2"), images(2))
    plain = sum(p.numel() for p in network.parameters())
    assert sum(b.numel() for b in lowered.graph_module.buffers()) <= plain


def test_a_fold_never_crosses_the_target_layer() -> None:
    network = seeded(TinyResNet()).double()
    for layer in ("layer1.conv2", "layer1.bn2", "layer1.conv1"):
        explainable = ExplainableModel(network, layer, normalize=False)
        assert_same(lower(explainable, images(2).double()), explainable, images(3, seed=5).double())


@pytest.mark.parametrize(
    ("network", "layer"), [(InPlaceAfter, "conv"), (PassThrough, "same"), (Recurrent, "again"), (NoGradLayer, "conv")]
)
def test_hard_networks(network: type[nn.Module], layer: str) -> None:
    explainable = ExplainableModel(seeded(network()).double(), layer, normalize=False, call=-1)
    assert_same(lower(explainable, images(2).double()), explainable, images(3, seed=5).double())


@pytest.mark.parametrize("ending", [nn.Softmax(1), nn.Sigmoid(), nn.LogSoftmax(1)])
def test_final_activation(ending: nn.Module) -> None:
    body = seeded(TinyResNet()).double()
    with torch.no_grad():
        body.fc.weight.mul_(1000.0)
    explainable = ExplainableModel(nn.Sequential(body, ending).eval(), "0.layer1")
    assert_same(lower(explainable, images(2).double()), explainable, images(3, seed=5).double())


def test_the_tutorials_xray_classifier() -> None:
    explainable = ExplainableModel(seeded(XrayClassifier(width=2)), "blocks.4")
    lowered = lower(explainable, images(1, (3, 256, 256)))
    for batch in (1, 4):
        assert_same(lowered, explainable, images(batch, (3, 256, 256), seed=batch))


def test_reshape_transform_is_part_of_the_graph() -> None:
    def transform(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 1:].transpose(1, 2).reshape(-1, tokens.shape[2], 4, 4)

    explainable = ExplainableModel(seeded(TinyViT()), "blocks.1.norm1", reshape_transform=transform)
    assert_same(lower(explainable, images(2)), explainable, images(5, seed=3))


def test_leaves_the_network_as_found() -> None:
    network = seeded(TinyResNet())
    state = copy.deepcopy(network.state_dict())
    lowered = lower(ExplainableModel(network, "layer1"), images(2))
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert all(p.requires_grad for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(buffer.requires_grad for buffer in lowered.buffers())


# What has no lowering


class OddActivation(nn.Module):
    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(activations)  # differentiable, and met in no vision network


class Exotic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.odd = OddActivation()
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.odd(self.conv(image)).mean((2, 3)))


def test_missing_operator_is_named_with_its_layer_and_can_be_added() -> None:
    explainable = ExplainableModel(seeded(Exotic()).double(), "conv", normalize=False)
    with pytest.raises(LoweringError, match=r"Cannot lower aten\.special_i0e\.default \(from odd\).*lowerings="):
        lower(explainable, images(2).double())

    def i0e(call, grad, self):  # type: ignore[no-untyped-def]
        return {"self": grad * (torch.special.i1e(self) - torch.sign(self) * call.output)}

    lowered = lower(explainable, images(2).double(), lowerings={aten.special_i0e.default: i0e})
    assert_same(lowered, explainable, images(3, seed=4).double())


def test_missing_rows_are_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded(TinyMobileNet()).double()
    without = {op: row for op, row in LOWERINGS.items() if op not in (aten.hardswish.default, aten.hardsigmoid.default)}
    monkeypatch.setattr("explainable_model.model.LOWERINGS", without)
    explainable = ExplainableModel(network, "stem")
    lowered = lower(explainable, images(2).double())
    assert_same(lowered, explainable, images(3, seed=4).double())
    targets = {node.target for node in lowered.graph_module.graph.nodes}
    assert aten.hardswish.default not in targets


def test_a_lowering_that_uses_autograd_is_refused() -> None:
    def relu(call, grad, self):  # type: ignore[no-untyped-def]
        return {"self": aten.threshold_backward(grad, self, 0)}

    with pytest.raises(LoweringError, match="still has aten.threshold_backward.default"):
        lower(ExplainableModel(seeded(TinyResNet()), "layer1"), images(2), lowerings={aten.relu.default: relu})


def test_errors_are_those_of_the_eager_call() -> None:
    with pytest.raises(ModelError, match="does not depend on target_layer 'conv'"):
        lower(ExplainableModel(seeded(Cut()), "conv"), images(2))
    with pytest.raises(LayerError, match="no spatial map"):
        lower(ExplainableModel(seeded(TinyResNet()), "fc"), images(2))
    lowered = lower(ExplainableModel(seeded(TinyResNet()), "layer2"), images(2))
    for image, class_idx in ((images(1) * float("nan"), None), (images(1), torch.tensor([5])), (images(1).int(), None)):
        with pytest.raises(InputError):
            lowered(image, class_idx)
    for image in (images(1, (3, 48, 48)), images(1, (1, 32, 32)), images(1).double()):
        with pytest.raises(InputError, match=r"lowered for torch.float32 of shape \(N, 3, 32, 32\)"):
            lowered(image)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.conv(image)
        if activations.sum() > 0:
            activations = activations * 2
        return self.fc(activations.mean((2, 3)))


def test_data_dependent_control_flow_is_an_error_with_the_reason() -> None:
    with pytest.raises(LoweringError, match=r"Branching cannot be traced by torch.export.*explained eagerly"):
        lower(ExplainableModel(seeded(Branching()), "conv"), images(2))


def test_the_mark_survives_functionalisation() -> None:
    network = seeded(InPlaceAfter())
    program = capture(network, ExplainableModel(network, "conv").plan, images(2), (), DynamicDims())
    taps = [n for n in program.graph.nodes if n.target is torch.ops.explainable_model.tap.default]
    assert len(taps) == 1
    assert not [n for n in program.graph.nodes if n.op == "call_function" and str(n.target).split(".")[1].endswith("_")]
    assert operator.getitem not in {n.target for n in program.graph.nodes}


class Assigning(nn.Module):
    """Assignments into the layer's output, broadcast, converted and by a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.conv(image) * 1.0
        activations[:, 0] = 0.5
        activations[:, 1] = activations[:, 2]
        activations[:, 3, 0] = torch.ones(32)
        return self.fc(torch.tanh(activations).mean((2, 3)))


class Attending(nn.Module):
    """torch's own attention module, which computes with the batch size in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.block(self.patch(image).flatten(2).transpose(1, 2)).mean(1))


@pytest.mark.parametrize(("network", "layer"), [(Assigning, "conv"), (Attending, "patch")])
def test_hard_networks_in_torchscript(network: type[nn.Module], layer: str) -> None:
    explainable = ExplainableModel(seeded(network()), layer, normalize=False)
    lowered = lower(explainable, images(2))
    assert_same(lowered, explainable, images(3, seed=5))
    cam = script(lowered)(images(3, seed=5))[2]
    assert torch.allclose(cam, explainable(images(3, seed=5)).cam, rtol=1e-4)


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.fft.rfft2(self.conv(image)).div(1000).exp().abs().mean((2, 3)))


def test_a_complex_path_is_refused_not_cut() -> None:
    with pytest.raises(LoweringError, match=r"Cannot lower aten\.exp\.default of complex numbers \(its 'self'\)"):
        lower(ExplainableModel(seeded(Fourier()), "conv"), images(2))
