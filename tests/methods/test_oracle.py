"""Each method on a whole network, against loops, hooks and plain autograd that share no code with the package."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from explainable_model import ExplainableModel
from explainable_model.errors import LayerError, ModelError
from explainable_model.methods import METHODS
from explainable_model.methods.noise import gaussian_noise
from explainable_model.model import lower
from tests.support.nets import SmallNet, TinyViT, images, seeded

LAYER = "block"
SIZE = (3, 16, 16)
GRID = (4, 4)
EXACT = 1e-10  # relative to the largest value of the map
CLASSES = (3, 1)


class SmoothNet(nn.Module):
    """A tail that is not piecewise linear, and ReLUs of both kinds, module and function."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU())
        self.conv = nn.Conv2d(4, 5, 3, 1, 1)
        self.fc1 = nn.Linear(5, 6)
        self.fc2 = nn.Linear(6, 4)

    def tail(self, activations: Tensor) -> Tensor:
        hidden = functional.gelu(self.conv(activations)).mean((2, 3))
        logits: Tensor = self.fc2(torch.tanh(self.fc1(hidden)))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.tail(self.stem(image))


def small() -> SmallNet:
    network = seeded(SmallNet()).double()
    assert isinstance(network, SmallNet)
    return network


def batch() -> Tensor:
    return images(2, SIZE, seed=4).double()


def raw(network: nn.Module, layer: str | None, method: str, image: Tensor, **options: Any) -> Tensor:
    """The package's signed map at its own resolution, of ``CLASSES``."""
    explainable = ExplainableModel(
        network, layer, method, normalize=False, upsample=False, signed=True, chunk_size=3, options=options
    )
    return explainable(image, torch.tensor(CLASSES)).cam


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert (found - expected).abs().max() < tolerance * expected.abs().max()


def each(function: Callable[[Tensor, int], Tensor], image: Tensor) -> Tensor:
    """A map for each image by itself."""
    return torch.stack([function(image[n : n + 1], CLASSES[n]) for n in range(len(image))])


@contextmanager
def output_changed(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    handle = module.register_forward_hook(lambda module, inputs, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def activations_of(network: nn.Module, layer: str, image: Tensor) -> Tensor:
    kept: list[Tensor] = []
    with torch.no_grad(), output_changed(network.get_submodule(layer), lambda out: kept.append(out.clone()) or out):  # type: ignore[func-returns-value]
        network(image)
    return kept[0]


def layer_gradient(network: nn.Module, layer: str, image: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Gradient of a score of the logits by the layer's output, for one image."""
    kept: list[Tensor] = []

    def leaf(output: Tensor) -> Tensor:
        kept.append(output.detach().clone().requires_grad_())
        return kept[0] * 1

    with output_changed(network.get_submodule(layer), leaf):
        logits = network(image)
    (gradient,) = torch.autograd.grad(score(logits[0]), kept[0])
    return gradient[0]


def image_gradient(network: nn.Module, image: Tensor, class_idx: int) -> Tensor:
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(leaf)[0, class_idx], leaf)
    return gradient[0]


def range_scaled(cam: Tensor) -> Tensor:
    return (cam - cam.min()) / (cam.max() - cam.min()) if cam.max() > cam.min() else torch.zeros_like(cam)


def enlarged(cam: Tensor, size: tuple[int, ...]) -> Tensor:
    return functional.interpolate(cam[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]


# More forward passes


def test_scorecam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            with torch.no_grad():
                scores.append(network(image * mask)[0, class_idx])
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "scorecam", batch()), each(oracle, batch()))


def test_iscam() -> None:
    network, samples = small(), 4

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            total = 0.0
            for i in range(samples + 1):
                masked = sum((j / samples * mask * image for j in range(i)), torch.zeros_like(image))
                with torch.no_grad():
                    total += (network(masked) - network(torch.zeros_like(image)))[0, class_idx]
            scores.append(total / samples)
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "iscam", batch(), samples=samples), each(oracle, batch()))


def test_sscam() -> None:
    network, samples, noise = small(), 3, 0.5

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        draws = gaussian_noise(torch.zeros(1, 1, *SIZE[1:], dtype=torch.float64), samples, seed=6)
        scores = []
        for channel in activations:
            mask = range_scaled(enlarged(channel, SIZE[1:]))
            with torch.no_grad():
                total = sum(network((mask + noise * draw[0]) * image)[0, class_idx] for draw in draws)
            scores.append(torch.as_tensor(total) / samples)
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None, None] * activations).sum(0)

    found = raw(network, LAYER, "sscam", batch(), samples=samples, noise=noise, seed=6)
    assert_equal(found, each(oracle, batch()))
    assert (found - raw(network, LAYER, "sscam", batch(), samples=samples, noise=noise, seed=7)).abs().max() > 1e-3
    without_noise = raw(network, LAYER, "sscam", batch(), samples=2, noise=0.0)
    assert_equal(without_noise, raw(network, LAYER, "scorecam", batch()))


def test_ablationcam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        cam = torch.zeros(GRID, dtype=torch.float64)
        with torch.no_grad():
            score = network(image)[0, class_idx]
            for k, channel in enumerate(activations):
                kept = torch.ones(len(activations), 1, 1, dtype=torch.float64)
                kept[k] = 0
                with output_changed(network.block, lambda output, kept=kept: output * kept):
                    cam += (score - network(image)[0, class_idx]) / score.abs() * channel
        return cam

    assert_equal(raw(network, LAYER, "ablationcam", batch()), each(oracle, batch()))


@pytest.mark.parametrize("gaussian", [False, True])
def test_reciprocam(gaussian: bool) -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        cam = torch.zeros(GRID, dtype=torch.float64)
        for row, column in product(*map(range, GRID)):
            mask = torch.zeros(GRID, dtype=torch.float64)
            for i, j in product(*map(range, GRID)):
                near = abs(i - row) <= 1 and abs(j - column) <= 1
                if gaussian and near:
                    mask[i, j] = 2.0 ** -(2 + abs(i - row) + abs(j - column))
                elif (i, j) == (row, column):
                    mask[i, j] = 1
            with torch.no_grad(), output_changed(network.block, lambda output, mask=mask: output * mask):
                cam[row, column] = network(image)[0, class_idx]
        return cam - cam.min()

    assert_equal(raw(network, LAYER, "reciprocam", batch(), gaussian=gaussian), each(oracle, batch()))


@pytest.mark.parametrize("gaussian", [False, True])
def test_vitreciprocam(gaussian: bool) -> None:
    network, layer = seeded(TinyViT()).double(), "blocks.1.norm1"
    image = images(2, seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        cam = torch.zeros(4, 4, dtype=torch.float64)
        for row, column in product(range(4), range(4)):
            mask = torch.zeros(17, 1, dtype=torch.float64)
            mask[0] = 1  # the class token stays
            for i, j in product(range(4), range(4)):
                distance = max(abs(i - row), abs(j - column))
                if distance <= (1 if gaussian else 0):
                    mask[1 + 4 * i + j] = 2.0 ** -(2 + abs(i - row) + abs(j - column)) if gaussian else 1.0
            with (
                torch.no_grad(),
                output_changed(network.get_submodule(layer), lambda output, mask=mask: output * mask),
            ):
                cam[row, column] = network(image)[0, class_idx]
        return cam - cam.min()

    assert_equal(raw(network, layer, "vitreciprocam", image, gaussian=gaussian), each(oracle, image))
    with pytest.raises(LayerError, match="'vitreciprocam' needs tokens .*; 'block' has a map. Use 'reciprocam' there"):
        raw(small(), LAYER, "vitreciprocam", batch())


class _Rows(TorchDispatchMode):
    """Counts the images that pass the convolution of three channels, the first of the network, and the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = self.classifier = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        if "conv" in name and "backward" not in name and args[1].ndim == 4 and args[1].shape[1] == 3:
            self.head += args[0].shape[0]
        elif name in ("aten.addmm", "aten.mm", "aten.linear"):
            self.classifier += args[1 if name == "aten.addmm" else 0].shape[0]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("method", "copies"), [("ablationcam", 10), ("reciprocam", 16), ("scorecam", 10), ("iscam", 30)]
)
def test_what_runs_again(method: str, copies: int) -> None:
    options = {"samples": 4} if method == "iscam" else None
    explainable = ExplainableModel(small(), LAYER, method, chunk_size=3, options=options)
    explainable(batch())  # the first call traces
    network = lower(explainable, images(2, SIZE).double())
    for call in (explainable, network):
        with _Rows() as rows:
            call(batch())
        assert rows.classifier == 2 * (1 + copies)
        assert rows.head == (2 * (1 + copies) if not METHODS[method].needs_graph else 2), "the head runs once"


# Gradients


def noisy(image: Tensor, samples: int, noise: float, seed: int) -> list[Tensor]:
    spread = noise * (image.max() - image.min())
    return [image + spread * sample for sample in gaussian_noise(image, samples, seed)]


def test_saliency_and_inputxgradient() -> None:
    network, image = small(), batch()
    gradients = each(lambda one, c: image_gradient(network, one, c), image)
    assert_equal(raw(network, None, "saliency", image), gradients.abs().max(1).values)
    assert_equal(raw(network, None, "inputxgradient", image), (image * gradients).sum(1))


def test_smoothgrad() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        copies = noisy(image, 5, 0.2, seed=7)
        return (sum(image_gradient(network, copy, class_idx) for copy in copies) / 5).abs().max(0).values  # type: ignore[union-attr]

    found = raw(network, None, "smoothgrad", batch(), samples=5, noise=0.2, seed=7)
    assert_equal(found, each(oracle, batch()))
    assert (found - raw(network, None, "smoothgrad", batch(), samples=5, noise=0.2, seed=8)).abs().max() > 1e-3


def test_integrated_gradients() -> None:
    network, steps, baseline = small(), 5, 0.25

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        total = torch.zeros(SIZE, dtype=torch.float64)
        for step in range(steps):
            total += image_gradient(network, baseline + (step + 0.5) / steps * (image - baseline), class_idx)
        return ((image[0] - baseline) * total / steps).sum(0)

    found = raw(network, None, "integrated_gradients", batch(), steps=steps, baseline=baseline)
    assert_equal(found, each(oracle, batch()))
    # With many steps it adds up to the difference of the scores.
    many = raw(network, None, "integrated_gradients", batch(), steps=400).sum((1, 2))
    with torch.no_grad():
        scores = network(batch())[[0, 1], list(CLASSES)] - network(torch.zeros(1, *SIZE).double())[0, list(CLASSES)]
    assert (many - scores).abs().max() < 1e-3


def test_smoothgradcam_plus_plus() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        gradients = [
            layer_gradient(network, LAYER, copy, lambda logits: logits[class_idx])
            for copy in noisy(image, 4, 0.3, seed=0)
        ]
        first, second, third = (torch.stack([g**power for g in gradients]).mean(0) for power in (1, 2, 3))
        denominator = 2 * second + activations.sum((1, 2), keepdim=True) * third
        alpha = torch.where(denominator > 1e-6 * second, second / denominator, 0.0)
        return ((alpha * first.clamp(min=0)).sum((1, 2))[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "smoothgradcam++", batch(), samples=4, noise=0.3), each(oracle, batch()), 1e-8)


class _GuidedReLU(nn.Module):
    """ReLU whose gradient is rectified by a backward hook on its output."""

    def forward(self, tensor: Tensor) -> Tensor:
        output = tensor.clamp(min=0) * 1
        output.register_hook(lambda gradient: gradient.clamp(min=0))
        return output


def guided_copy() -> SmallNet:
    network = small()
    network.stem[2], network.block.relu = _GuidedReLU(), _GuidedReLU()
    return network


def test_guided_backprop() -> None:
    oracle = each(lambda image, c: image_gradient(guided_copy(), image, c).abs().max(0).values, batch())
    assert_equal(raw(small(), None, "guided_backprop", batch()), oracle)
    plain = raw(small(), None, "saliency", batch())
    assert (plain - oracle).abs().max() > 0.1 * oracle.max(), "the network has negative gradients at its ReLUs"


def test_guided_gradcam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, LAYER, image)[0]
        gradients = layer_gradient(network, LAYER, image, lambda logits: logits[class_idx])
        cam = (gradients.mean((1, 2))[:, None, None] * activations).sum(0).clamp(min=0)
        return enlarged(cam, SIZE[1:]) * image_gradient(guided_copy(), image, class_idx).abs().max(0).values

    assert_equal(raw(network, LAYER, "guided_gradcam", batch()), each(oracle, batch()))


def bias_shares(network: SmallNet, image: Tensor, class_idx: int) -> tuple[Tensor, list[Tensor]]:
    """``x g`` of the image, and the gradient at each layer with a bias times that bias; one image."""
    biased = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    outputs: list[tuple[nn.Module, Tensor]] = []
    # In-place ReLUs must not touch what is kept.
    handles = [
        module.register_forward_hook(lambda module, inputs, out: outputs.append((module, out)) or out.clone())  # type: ignore[func-returns-value]
        for module in biased
    ]
    leaf = image.clone().requires_grad_()
    logits = network(leaf)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(logits[0, class_idx], [leaf, *(out for _, out in outputs)])
    shares = []
    for (module, _), gradient in zip(outputs, gradients[1:], strict=True):
        if isinstance(module, nn.BatchNorm2d):
            still = torch.zeros(1, module.num_features, 1, 1, dtype=torch.float64)
            with torch.no_grad():
                bias = module(still)[0, :, 0, 0]
        elif module.bias is None:
            continue
        else:
            bias = module.bias.detach()
        shares.append(gradient[0] * bias.reshape(-1, *[1] * (gradient.ndim - 2)))
    return leaf.detach()[0] * gradients[0][0], shares


def test_fullgrad() -> None:
    network, image = small(), batch()
    scores = network(image).detach()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        own, shares = bias_shares(network, image, class_idx)
        cam = sum((range_scaled(channel.abs()) for channel in own), torch.zeros(SIZE[1:], dtype=torch.float64))
        for share in shares:
            if share.ndim == 3:
                for channel in share:
                    cam = cam + enlarged(range_scaled(channel.abs()), SIZE[1:])
        return cam

    for n, class_idx in enumerate(CLASSES):
        own, shares = bias_shares(network, image[n : n + 1], class_idx)
        whole = own.sum() + sum(share.sum() for share in shares)
        assert (whole - scores[n, class_idx]).abs() < 1e-10, "all shares add up to the score"
    assert_equal(raw(network, None, "fullgrad", image), each(oracle, image))


def test_shapleycam() -> None:
    network = seeded(SmoothNet()).double()
    assert isinstance(network, SmoothNet)
    image = images(2, (3, 12, 12), seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        activations = activations_of(network, "stem", image)

        def score(flat: Tensor) -> Tensor:
            return network.tail(flat.reshape(activations.shape))[0, class_idx]

        flat = activations.flatten()
        gradient = torch.autograd.functional.jacobian(score, flat)
        hessian = torch.autograd.functional.hessian(score, flat)
        assert (hessian @ flat).abs().max() > 0.01 * gradient.abs().max(), "the second order must count"
        weights = (gradient - hessian @ flat / 2).reshape(activations.shape)[0].mean((1, 2))
        return (weights[:, None, None] * activations[0]).sum(0)

    assert_equal(raw(network, "stem", "shapleycam", image), each(oracle, image))


@pytest.mark.parametrize("references", [1, 2])
def test_finercam(references: int) -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        logits = network(image)[0].detach()
        others = sorted(
            (c for c in range(5) if c != class_idx), key=lambda c: float((logits[c] - logits[class_idx]).abs())
        )

        def score(logits: Tensor) -> Tensor:
            return logits[class_idx] - 0.5 * torch.stack([logits[c] for c in others[:references]]).mean()

        gradients = layer_gradient(network, LAYER, image, score)
        activations = activations_of(network, LAYER, image)[0]
        return (gradients.mean((1, 2))[:, None, None] * activations).sum(0)

    assert_equal(raw(network, LAYER, "finercam", batch(), gamma=0.5, references=references), each(oracle, batch()))


def test_cam() -> None:
    network = small()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        return torch.einsum(
            "k,khw->hw", network.fc.weight[class_idx].detach(), activations_of(network, LAYER, image)[0]
        )

    assert_equal(raw(network, LAYER, "cam", batch()), each(oracle, batch()))
    with pytest.raises(
        ModelError, match="'cam' needs average pooling and a linear classifier behind .*'stem'.*Use 'gradcam'"
    ):
        raw(network, "stem", "cam", batch())


# Attention


def vit_with_leaf_attention(network: nn.Module, image: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the attention probabilities of every block as part of the graph; written out from the weights."""
    model: Any = network
    tokens = functional.conv2d(image, model.patch.weight, model.patch.bias, stride=8).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.cls_token.expand(len(image), -1, -1), tokens], 1)
    attentions = []
    for block in model.blocks:
        count, width = tokens.shape[1:]
        qkv = block.qkv(block.norm1(tokens))
        mixed = []
        probabilities = []
        for head in range(block.heads):
            size = width // block.heads
            query, key, value = (qkv[..., part * width + head * size :][..., :size] for part in range(3))
            probabilities.append(torch.softmax(query @ key.transpose(1, 2) / size**0.5, 2))
            mixed.append(value)
        attention = torch.stack(probabilities, 1)
        attentions.append(attention)
        mixed = [attention[:, head] @ value for head, value in enumerate(mixed)]
        tokens = tokens + block.proj(torch.cat(mixed, 2))
        tokens = tokens + block.mlp(block.norm2(tokens))
        assert count == 17
    return model.head(model.norm(tokens)[:, 0]), attentions


def test_legrad() -> None:
    network, image = seeded(TinyViT()).double(), images(2, seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        logits, attentions = vit_with_leaf_attention(network, image)
        assert (logits - network(image)).abs().max() < 1e-12
        gradients = torch.autograd.grad(logits[0, class_idx], attentions)
        layers = [gradient[0].clamp(min=0).mean((0, 1))[1:].reshape(4, 4) for gradient in gradients]
        return torch.stack(layers).mean(0)

    assert_equal(raw(network, None, "legrad", image), each(oracle, image))


def test_rollout() -> None:
    network, image = seeded(TinyViT()).double(), images(2, seed=4).double()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        with torch.no_grad():
            _, attentions = vit_with_leaf_attention(network, image)
        reached = torch.eye(17, dtype=torch.float64)
        for attention in attentions:
            reached = (attention[0].mean(0) / 2 + torch.eye(17, dtype=torch.float64) / 2) @ reached
        return reached[0, 1:].reshape(4, 4)

    assert_equal(raw(network, None, "rollout", image), each(oracle, image))


@pytest.mark.parametrize("method", ["legrad", "rollout"])
def test_a_network_without_attention(method: str) -> None:
    with pytest.raises(ModelError, match="no attention over tokens"):
        raw(small(), None, method, batch())
