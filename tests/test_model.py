"""ExplainableModel against an independent reference, and under every condition it promises to work in."""

import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional

from explainable_model import ExplainableModel, lower
from explainable_model.errors import InputError, LayerError, ModelError
from tests.support.nets import Case, TinyMobileNet, TinyResNet, TinyViT, XrayClassifier, images, seeded
from tests.support.reference import finished, gradcam
from tests.support.steady import steadiest


def prefix_of(network: nn.Module) -> int | None:
    return 1 if isinstance(network, TinyViT) else None


@pytest.mark.parametrize("where", ["last", "early"])
def test_equals_the_reference(case: Case, network: nn.Module, where: str) -> None:
    layer, network = getattr(case, where), network.double()
    image = images(3, case.size).double()
    class_idx, signed = gradcam(network, layer, image, prefix_tokens=prefix_of(network))
    raw = ExplainableModel(network, layer, normalize=False, upsample=False)(image)
    assert torch.equal(raw.class_idx, class_idx)
    assert (raw.cam - signed.clamp(min=0)).abs().max() <= 1e-10 * signed.abs().max()
    assert (raw.cam > 0).any(), "a map of zeros would prove nothing"
    full = ExplainableModel(network, layer)(image)
    assert full.cam.shape == (3, *case.size[1:])
    assert (full.cam - finished(signed, case.size[1:])).abs().max() <= 1e-9


@pytest.mark.parametrize("where", ["last", "early"])
def test_float32_is_float64_but_for_rounding(case: Case, network: nn.Module, where: str) -> None:
    layer = getattr(case, where)
    exact = ExplainableModel(copy.deepcopy(network).double(), layer)
    image, classes = steadiest(exact, images(8, case.size), torch.arange(8) % 3, 3)
    single, double = ExplainableModel(network, layer)(image, classes), exact(image.double(), classes)
    assert single.cam.dtype == torch.float32
    assert (single.cam - double.cam).abs().max() <= 2e-5
    assert (single.logits - double.logits).abs().max() <= 1e-5 * double.logits.abs().max()


def test_hand_computed_two_by_two() -> None:
    # One channel copied, one doubled; logits are weighted means: everything can be checked by eye.
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
        network[3].weight.copy_(torch.tensor([[4.0, 0.0], [8.0, -2.0]]))
        network[3].bias.zero_()
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    explainable = ExplainableModel(network.eval(), "0", normalize=False)
    logits, class_idx, cam = explainable(image)
    # Channel means 2.5 and 5: logits 10 and 20 - 10 = 10 -> class 0 wins the tie. Gradients are 4/4 and 0.
    assert logits.tolist() == [[10.0, 10.0]]
    assert class_idx.tolist() == [0]
    assert cam.tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    # Class 1: gradients 8/4 = 2 and -2/4 = -0.5: 2 * A - 0.5 * 2 A = A.
    _, _, other = explainable(image, torch.tensor([1]))
    assert other.tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    assert ExplainableModel(network, "0")(image).cam.flatten().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_batch_of_two_equals_two_batches_of_one(case: Case, network: nn.Module) -> None:
    explainable = ExplainableModel(network.double(), case.last)
    image = images(2, case.size).double()
    both = explainable(image)
    for n in range(2):
        one = explainable(image[n : n + 1])
        assert torch.allclose(both.cam[n], one.cam[0], atol=1e-10)
        assert torch.allclose(both.logits[n], one.logits[0], atol=1e-10)


def test_another_class_gives_another_map(case: Case, network: nn.Module) -> None:
    explainable = ExplainableModel(network.double(), case.last, normalize=False)
    image = images(2, case.size).double()
    first = explainable(image, torch.tensor([0, 0]))
    second = explainable(image, torch.tensor([1, 0]))
    assert first.class_idx.tolist() == [0, 0]
    assert second.class_idx.tolist() == [1, 0]
    assert not torch.allclose(first.cam[0], second.cam[0])
    assert torch.allclose(first.cam[1], second.cam[1], atol=1e-12)
    _, signed = gradcam(network, case.last, image, torch.tensor([1, 0]), prefix_of(network))
    raw = ExplainableModel(network, case.last, normalize=False, upsample=False)(image, torch.tensor([1, 0]))
    assert torch.allclose(raw.cam, signed.clamp(min=0), atol=1e-10)


def test_minus_one_is_the_predicted_class() -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    image = images(3)
    predicted = explainable(image)
    mixed = explainable(image, torch.tensor([-1, 2, -1]))
    assert mixed.class_idx.tolist() == [int(predicted.class_idx[0]), 2, int(predicted.class_idx[2])]
    assert torch.equal(mixed.cam[0], predicted.cam[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_works_in_every_gradient_mode(mode: type, frozen: bool) -> None:
    network = seeded(TinyResNet()).requires_grad_(not frozen)
    explainable = ExplainableModel(network, "layer1")
    expected = explainable(images(2))
    with mode():
        got = explainable(images(2))  # under inference_mode the image is an inference tensor too
        assert torch.is_grad_enabled() == (mode is torch.enable_grad), "the mode is left as found"
    assert torch.equal(got.cam, expected.cam)
    assert not got.cam.requires_grad
    assert not got.logits.requires_grad


def test_leaves_the_network_as_found() -> None:
    network = seeded(TinyResNet())
    network.stem.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    needs = [p.requires_grad for p in network.parameters()]
    ExplainableModel(network, "layer1")(images(2))
    assert [p.requires_grad for p in network.parameters()] == needs
    assert not any(module.training for module in network.modules())
    assert torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
    assert all(p.grad is None for name, p in network.named_parameters() if name != "fc.weight")
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_frees_what_it_captured() -> None:
    import gc
    import weakref

    kept: list[weakref.ref[torch.Tensor]] = []
    network = seeded(TinyResNet())
    network.layer1.register_forward_hook(lambda module, inputs, output: kept.append(weakref.ref(output)))
    result = ExplainableModel(network, "layer1")(images(1))
    gc.collect()
    assert [ref() for ref in kept] == [None]
    assert result.cam.shape == (1, 32, 32)


@pytest.mark.parametrize("layer", ["layer1", None])
def test_threads_on_one_module_do_not_mix(layer: str | None) -> None:
    network = seeded(TinyResNet())
    batches = [images(1 + n % 3, seed=n) for n in range(48)]
    expected = [ExplainableModel(network, layer or "layer2")(batch) for batch in batches]
    explainable = ExplainableModel(network, layer)  # without a name, eight threads look for the layer at once
    results: dict[int, torch.Tensor] = {}
    barrier = threading.Barrier(8)

    def work(start: int) -> None:
        barrier.wait()
        for n in range(start, len(batches), 8):
            results[n] = explainable(batches[n]).cam

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(48))
    assert all(torch.equal(results[n], expected[n].cam) for n in results)
    assert not explainable.model.layer1._forward_hooks


class InPlaceAfter(nn.Module):
    """Everything after the layer overwrites its output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.conv(image)
        activations.mul_(0.5).add_(0.1)
        activations[:, 0] = 0
        activations.relu_()
        return self.fc(activations.mean((2, 3)))


class PassThrough(nn.Module):
    """The layer returns its input, which is overwritten afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.same = nn.Identity()
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        before = self.conv(image)
        after = self.same(before)
        before.zero_()
        return self.fc((after * after.tanh()).mean((2, 3)))


def test_in_place_operations_after_the_layer() -> None:
    network = seeded(InPlaceAfter()).double()
    image = images(2).double()
    activations = network.conv(image).detach().requires_grad_()
    masked = torch.cat([torch.zeros_like(activations[:, :1]), (activations[:, 1:] * 0.5 + 0.1).relu()], 1)
    scores = network.fc(masked.mean((2, 3)))
    (gradients,) = torch.autograd.grad(scores.amax(1).sum(), activations)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)
    got = ExplainableModel(network, "conv", normalize=False)(image)
    assert torch.allclose(got.cam, expected, atol=1e-12)


def test_layer_that_returns_its_input() -> None:
    network = seeded(PassThrough()).double()
    image = images(2).double()
    got = ExplainableModel(network, "same", normalize=False)(image)
    activations = network.conv(image).detach()
    leaf = activations.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc((leaf * leaf.tanh()).mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * activations).sum(1).clamp(min=0)
    assert torch.allclose(got.cam, expected, atol=1e-12)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        activations = self.first(image)
        for _ in range(3):
            activations = torch.tanh(self.again(activations))
        return self.fc(activations.mean((2, 3)))


def test_the_last_call_of_a_recurrent_layer_is_explained() -> None:
    network = seeded(Recurrent()).double()
    image = images(2).double()
    hidden = network.first(image)
    for _ in range(2):
        hidden = torch.tanh(network.again(hidden))
    leaf = network.again(hidden).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc(torch.tanh(leaf).mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * leaf.detach()).sum(1).clamp(min=0)
    got = ExplainableModel(network, "again", normalize=False, call=-1)(image)
    assert torch.allclose(got.cam, expected, atol=1e-12)


class NoGradLayer(nn.Module):
    """The network runs its layer, and the target inside, under its own no_grad."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            activations = self.conv(image)
        return self.fc(activations.relu().mean((2, 3)))


def test_layer_under_no_grad() -> None:
    network = seeded(NoGradLayer())
    got = ExplainableModel(network, "conv", normalize=False)(images(2))
    leaf = network.conv(images(2)).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(network.fc(leaf.relu().mean((2, 3))).amax(1).sum(), leaf)
    expected = (gradients.mean((2, 3), keepdim=True) * leaf.detach()).sum(1).clamp(min=0)
    assert torch.allclose(got.cam, expected, atol=1e-6)


# Final activations


@pytest.mark.parametrize(
    "ending",
    [
        nn.Softmax(1),
        nn.Sigmoid(),
        nn.LogSoftmax(1),
        nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, (5, 1)), nn.Flatten()),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_final_activation_is_explained_by_the_logit_under_it(ending: nn.Module, scale: float) -> None:
    network = seeded(TinyResNet())
    with torch.no_grad():
        network.fc.weight.mul_(scale)  # at 1000 every probability is 0 or 1 and its own gradient is 0
    plain = ExplainableModel(network, "layer1")(images(2))
    ended = ExplainableModel(nn.Sequential(network, ending).eval(), "0.layer1")(images(2), plain.class_idx)
    assert torch.allclose(ended.cam, plain.cam, atol=1e-6)
    assert (ended.cam.flatten(1).amax(1) > 0.5).all()
    assert torch.equal(ended.logits, ending(plain.logits)), "the prediction stays the network's own"


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), ()])
def test_binary_outputs(shape: tuple[int, ...]) -> None:
    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = seeded(TinyResNet(classes=1))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.body(image)).reshape(-1, *shape)

    network = Binary().eval()
    got = ExplainableModel(network, "body.layer1", normalize=False, upsample=False)(images(3))
    assert got.logits.shape == (3, *shape)
    assert got.class_idx.tolist() == [0, 0, 0]
    _, signed = gradcam(network.body, "layer1", images(3))
    assert torch.allclose(got.cam, signed.clamp(min=0), atol=1e-6)


def test_the_tutorials_xray_classifier() -> None:
    network = seeded(XrayClassifier(width=4))
    explainable = ExplainableModel(network, "blocks.4")
    for batch in (1, 4):
        image = images(batch, (3, 256, 256), seed=batch)
        got = explainable(image)
        assert got.logits.shape == (batch, 1, 1, 1)
        assert torch.equal(got.logits, network(image))
        kept = network.blocks(image).detach().requires_grad_()
        (gradients,) = torch.autograd.grad(network.classify(kept).sum(), kept)
        signed = (gradients.mean((2, 3), keepdim=True) * kept.detach()).sum(1)
        assert torch.allclose(got.cam, finished(signed, (256, 256)), atol=1e-5)
        assert got.cam.amax() > 0.5


def test_constant_image_is_finite() -> None:
    for network, layer in ((seeded(TinyResNet()), "layer2"), (seeded(TinyMobileNet()), "project")):
        for value in (0.0, 1.0, -3.0):
            cam = ExplainableModel(network, layer)(torch.full((2, 3, 32, 32), value)).cam
            assert torch.isfinite(cam).all()
            assert cam.min() >= 0
            assert cam.max() <= 1


def test_autocast_and_half_precision() -> None:
    network = seeded(TinyResNet())
    expected = ExplainableModel(network, "layer1")(images(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = ExplainableModel(network, "layer1")(images(2), expected.class_idx)
    assert (mixed.cam.float() - expected.cam).abs().max() < 0.1
    half = ExplainableModel(copy.deepcopy(network).bfloat16(), "layer1")(images(2).bfloat16(), expected.class_idx)
    assert half.cam.dtype == torch.bfloat16
    assert (half.cam.float() - expected.cam).abs().max() < 0.15


def test_channels_last_and_non_square_images() -> None:
    network = seeded(TinyResNet())
    image = images(2, (3, 32, 48))
    expected = ExplainableModel(network, "layer1")(image)
    got = ExplainableModel(network.to(memory_format=torch.channels_last), "layer1")(
        image.to(memory_format=torch.channels_last)
    )
    assert got.cam.shape == (2, 32, 48)
    assert torch.allclose(got.cam, expected.cam, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch.compile of torch 2.11 calls it
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # which it hides by itself otherwise
def test_copies_and_wrappers() -> None:
    network = seeded(TinyResNet())
    expected = ExplainableModel(network, "layer1")(images(2))
    copied = copy.deepcopy(ExplainableModel(network, "layer1"))
    assert torch.equal(copied(images(2)).cam, expected.cam)
    restored = pickle.loads(pickle.dumps(ExplainableModel(network, "layer1")))
    assert torch.equal(restored(images(2)).cam, expected.cam)
    partly = copy.deepcopy(network)
    partly.layer2 = torch.compile(partly.layer2, backend="eager")
    inside = copy.deepcopy(network)
    inside.compile(backend="eager")
    for wrapped in (nn.DataParallel(network), torch.compile(network), partly, inside):
        explainable = ExplainableModel(wrapped, "layer1")
        assert torch.equal(explainable(images(2)).cam, expected.cam)
        assert torch.allclose(lower(explainable, images(1))(images(2)).cam, expected.cam, atol=1e-4)
    assert torch.equal(ExplainableModel(network, network.layer1)(images(2)).cam, expected.cam)


# Bad input


def test_unknown_layer_names_candidates() -> None:
    with pytest.raises(LayerError, match=r"'layer9' is not in TinyResNet.*Did you mean 'layer2', 'layer1'"):
        ExplainableModel(seeded(TinyResNet()), "layer9")
    with pytest.raises(LayerError, match=r"Linear that is not a module of TinyResNet"):
        ExplainableModel(seeded(TinyResNet()), nn.Linear(2, 2))


def test_layer_without_a_map_or_that_never_runs() -> None:
    with pytest.raises(LayerError, match=r"'fc' has no spatial map: its output has shape \(1, 5\)"):
        ExplainableModel(seeded(TinyResNet()), "fc")(images(1))
    with pytest.raises(LayerError, match="'blocks' did not run.*ModuleList"):
        ExplainableModel(seeded(TinyViT()), "blocks")(images(1))
    # An example moves the error to the construction.
    with pytest.raises(LayerError, match="'fc' has no spatial map"):
        ExplainableModel(seeded(TinyResNet()), "fc", example=images(1))


class Cut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.side = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.side(image)
        return self.fc(self.conv(image).detach().mean((2, 3)))


@pytest.mark.parametrize("layer", ["conv", "side"])
def test_no_gradient_path(layer: str) -> None:
    with pytest.raises(ModelError, match=f"does not depend on target_layer '{layer}'"):
        ExplainableModel(seeded(Cut()), layer)(images(1))


def test_training_mode_is_refused() -> None:
    with pytest.raises(ModelError, match=r"TinyResNet is in training mode.*\.eval\(\)"):
        ExplainableModel(TinyResNet().train(), "layer1")
    explainable = ExplainableModel(seeded(TinyResNet()), "layer1")
    explainable.model.layer1.bn1.train()
    with pytest.raises(ModelError, match="training mode"):
        explainable(images(1))


@pytest.mark.parametrize(
    ("class_idx", "message"),
    [
        (torch.tensor([5]), "class_idx 5 is out of range; the network has 5"),
        (torch.tensor([-2]), "class_idx -2 is out of range"),
        (torch.tensor([0, 1]), r"class_idx has shape \(2,\); expected \(1,\)"),
        (torch.tensor([0.0]), "class_idx is a torch.float32 tensor; expected an int64"),
        ("cat", "class_idx is str; expected an int64 tensor"),
        ([0, 1], r"class_idx has shape \(2,\); expected \(1,\)"),
        (True, "class_idx is a torch.bool tensor"),
    ],
)
def test_bad_class_idx(class_idx: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExplainableModel(seeded(TinyResNet()), "layer1")(images(1), class_idx)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 32), r"shape \(3, 32\); expected \(N, C, H, W\)"),
        (torch.zeros(3, 32, 32), r"first convolution of TinyResNet expects \(N, C, H, W\)"),
        (torch.zeros(1, 4, 32, 32), "4 channel.*expects 3"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), r"uint8; expected floating point.*/ 255"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.float64), r"float64 and the network is torch.float32"),
        (torch.full((1, 3, 32, 32), float("nan")), "NaN or infinite"),
        (torch.full((1, 3, 32, 32), float("inf")), "NaN or infinite"),
        (torch.zeros(0, 3, 32, 32), "image is empty"),
        ([[1.0]], "image is list; expected a torch.Tensor"),
    ],
)
def test_bad_image(image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ExplainableModel(seeded(TinyResNet()), "layer1")(image)


def test_an_image_whose_sum_overflows_is_finite() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(2, 2)).half()
    answer = ExplainableModel(seeded(network), "0")(torch.full((1, 3, 8, 8), 2048.0, dtype=torch.float16))
    assert torch.isfinite(answer.logits).all()
    with pytest.raises(InputError, match="NaN or infinite"):  # which cancel each other in no sum
        ExplainableModel(network, "0")(torch.tensor([torch.inf, -torch.inf]).half().repeat(1, 3, 8, 4))


def test_networks_that_cannot_be_wrapped() -> None:
    with pytest.raises(ModelError, match="model is str"):
        ExplainableModel("resnet50", "layer1")  # type: ignore[arg-type]
    with torch.inference_mode():
        inference = seeded(TinyResNet())
    with pytest.raises(ModelError, match="made under torch.inference_mode"):
        ExplainableModel(inference, "layer1")
    with pytest.raises(ValueError, match="Unknown method 'gradcamm'; known methods: gradcam"):
        ExplainableModel(seeded(TinyResNet()), "layer1", "gradcamm")


def test_lost_batch_dimension_is_explained() -> None:
    class Squeezed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = seeded(TinyResNet())

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.body(image).squeeze()

    with pytest.raises(ModelError, match=r"logits of shape \(5,\) for 1 image.*squeeze"):
        ExplainableModel(Squeezed().eval(), "body.layer1")(images(1))


def test_reshape_transform() -> None:
    network = seeded(TinyViT())
    expected = ExplainableModel(network, "blocks.1.norm1")(images(2))
    got = ExplainableModel(
        network, "blocks.1.norm1", reshape_transform=lambda tokens: tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    )(images(2))
    assert torch.equal(got.cam, expected.cam)
    with pytest.raises(LayerError, match=r"reshape_transform made \(2, 16, 16\) of \(2, 17, 16\)"):
        ExplainableModel(network, "blocks.1.norm1", reshape_transform=lambda tokens: tokens[:, 1:])(images(2))


def test_signals_and_volumes() -> None:
    signal = seeded(
        nn.Sequential(nn.Conv1d(2, 4, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    )
    volume = seeded(
        nn.Sequential(nn.Conv3d(1, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 3))
    )
    for network, size in ((signal, (2, 40)), (volume, (1, 9, 10, 11))):
        image = images(2, size)
        got = ExplainableModel(network, "1", normalize=False)(image)
        kept = network[1](network[0](image)).detach().requires_grad_()
        (gradients,) = torch.autograd.grad(network[2:](kept).amax(1).sum(), kept)
        signed = torch.einsum("nk,nk...->n...", gradients.flatten(2).mean(2), kept.detach())
        mode = {1: "linear", 3: "trilinear"}[len(size) - 1]
        expected = functional.interpolate(signed.clamp(min=0)[:, None], size=size[1:], mode=mode)[:, 0]
        assert torch.allclose(got.cam, expected, atol=1e-6)
