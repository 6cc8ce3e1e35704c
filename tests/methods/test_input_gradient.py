"""Maps at image resolution: by hand, against loops, and the sums they must have on small networks."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.methods import input_gradient
from explainable_model.methods.input_gradient import (
    expected_gradients,
    fullgrad,
    guided_gradcam,
    inputxgradient,
    integrated_gradients,
    integration_path,
    saliency,
    smoothgrad,
    smoothgrad_sq,
    vargrad,
)
from tests.support import method_checks as checks
from tests.support.nets import seeded

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SIZES = [(7,), (4, 5), (2, 3, 4)]


def gradient_of(network: nn.Module, image: Tensor, class_idx: int) -> Tensor:
    image = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(image)[:, class_idx].sum(), image)
    return gradient


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_replicas(size: tuple[int, ...]) -> None:
    image, gradients, noisy, baseline, cam = checks.inputs([(3, *size)] * 2 + [(4, 3, *size), (3, *size), size], 2)
    x, g, many, zero, place = (tensor.numpy() for tensor in (image, gradients, noisy, baseline, cam))
    expected = {
        name: np.zeros((2, *size))
        for name in ("saliency", "product", "smooth", "squared", "variance", "integrated", "guided")
    }
    for n in range(2):
        for index in np.ndindex(*size):
            at = (slice(None), *index)
            mean = sum(many[n, m][at] for m in range(4)) / 4
            expected["saliency"][(n, *index)] = max(abs(value) for value in g[n][at])
            expected["product"][(n, *index)] = np.dot(x[n][at], g[n][at])
            expected["smooth"][(n, *index)] = np.abs(mean).max()
            drawn = [many[n, m][at] for m in range(4)]
            expected["squared"][(n, *index)] = max(sum(draw**2 for draw in drawn) / 4)
            expected["variance"][(n, *index)] = max(sum((draw - mean) ** 2 for draw in drawn) / 4)
            expected["integrated"][(n, *index)] = np.dot(x[n][at] - zero[n][at], mean)
            expected["guided"][(n, *index)] = max(abs(place[(n, *index)] * value) for value in g[n][at])
    given = {
        "saliency": saliency(gradients),
        "product": inputxgradient(image, gradients),
        "smooth": smoothgrad(noisy),
        "squared": smoothgrad_sq(noisy),
        "variance": vargrad(noisy),
        "integrated": integrated_gradients(image, baseline, noisy),
        "guided": guided_gradcam(cam.abs(), gradients),
    }
    for name, wanted in expected.items():
        assert np.abs(given[name].numpy() - wanted).max() < 1e-12, name


def test_by_hand() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [1.0, 2.0]]]])
    gradients = torch.tensor([[[[1.0, -1.0], [0.0, 2.0]], [[3.0, 0.5], [-1.0, -1.0]]]])
    assert saliency(gradients).tolist() == [[[3.0, 1.0], [1.0, 2.0]]]
    # 1 + 0, -2 - 0.5, 0 - 1, 8 - 2.
    assert inputxgradient(image, gradients).tolist() == [[[1.0, -2.5], [-1.0, 6.0]]]
    # The mean of g and -3 g is -g.
    copies = torch.stack([gradients, -3 * gradients], 1)
    assert smoothgrad(copies).tolist() == [[[3.0, 1.0], [1.0, 2.0]]]
    # g and -3 g: squares g^2 and 9 g^2; from their mean -g they are 2 g away.
    assert smoothgrad_sq(copies).tolist() == [[[45.0, 5.0], [5.0, 20.0]]]
    assert vargrad(copies).tolist() == [[[36.0, 4.0], [4.0, 16.0]]]
    assert expected_gradients(image * gradients).tolist() == [[[1.0, -2.5], [-1.0, 6.0]]]
    # (x - 1) times -g: 0 + 3, 1 + 1, 0 + 0, -6 + 1.
    assert integrated_gradients(image, torch.ones_like(image), copies).tolist() == [[[3.0, 2.0], [0.0, -5.0]]]
    cam = torch.tensor([[[1.0, 0.0], [0.5, 2.0]]])
    assert guided_gradcam(cam, gradients).tolist() == [[[3.0, 0.0], [0.5, 4.0]]]


def test_integration_path() -> None:
    image, baseline = checks.inputs([(3, 4, 5)] * 2, batch=2)
    path = integration_path(image, baseline, 5)
    assert path.shape == (2, 5, 3, 4, 5)
    for m in range(5):
        share = (m + 0.5) / 5
        assert (path[:, m] - (1 - share) * baseline - share * image).abs().max() < 1e-12
    assert torch.equal(integration_path(image, baseline[:1], 5)[0], path[0])


def test_integrated_gradients_add_up_to_the_difference_of_scores() -> None:
    network = seeded(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 2 * 3, 3))).double()
    image, baseline = checks.inputs([(3, 4, 5)] * 2, batch=2)
    difference = (network(image) - network(baseline))[:, 1].detach()
    errors = []
    for steps in (16, 32):
        path = integration_path(image, baseline, steps)
        gradients = gradient_of(network, path.flatten(0, 1), 1).reshape(path.shape)
        cam = integrated_gradients(image, baseline, gradients)
        errors.append((cam.flatten(1).sum(1) - difference).abs().max().item())
    assert errors[1] < 1e-3 * difference.abs().max().item()
    assert errors[1] < 0.3 * errors[0]  # the square of the step, not the step


def test_inputxgradient_adds_up_to_the_score_without_biases() -> None:
    layers = [nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 3, 3, bias=False)]
    network = seeded(nn.Sequential(*layers)).double()
    image = checks.normal(2, 3, 4, 5)
    cam = inputxgradient(image, gradient_of(network, image, 2))
    assert (cam.flatten(1).sum(1) - network(image)[:, 2]).abs().max() < 1e-12


def fullgrad_loops(image: Tensor, gradients: Tensor, layers: list[Tensor]) -> Tensor:
    """The paper's equation channel by channel: magnitude, range, resizing, sum."""
    size = tuple(image.shape[2:])
    mode = ("linear", "bilinear", "trilinear")[len(size) - 1]
    total = torch.zeros(image.shape[0], *size, dtype=image.dtype)
    for maps in (image * gradients, *layers):
        for n in range(maps.shape[0]):
            for channel in maps[n]:
                span = channel.abs().max() - channel.abs().min()
                scaled = (channel.abs() - channel.abs().min()) / span if span > 0 else torch.zeros_like(channel)
                total[n] += functional.interpolate(scaled[None, None], size, mode=mode, align_corners=False)[0, 0]
    return total


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fullgrad_replica(size: tuple[int, ...]) -> None:
    smaller = tuple(max(extent // 2, 2) for extent in size)
    image, gradients, first, second = checks.inputs([(3, *size)] * 2 + [(4, *size), (5, *smaller)], batch=2)
    expected = fullgrad_loops(image, gradients, [first, second])
    assert checks.relative(fullgrad(image, gradients, [first, second]), expected) < 1e-12


def test_fullgrad_by_hand() -> None:
    # x g = [[0, 2], [-4, 0]]: magnitudes over 4: [[0, 1/2], [1, 0]]. Bias maps: [[1, 1], [1, 1]] is constant, zero;
    # [[-1, 1], [3, 1]] has magnitudes [[1, 1], [3, 1]], scaled [[0, 0], [1, 0]].
    image = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])
    gradients = torch.tensor([[[[3.0, 2.0], [-2.0, 0.0]]]])
    biases = torch.tensor([[[[1.0, 1.0], [1.0, 1.0]], [[-1.0, 1.0], [3.0, 1.0]]]])
    assert fullgrad(image, gradients, [biases]).tolist() == [[[0.0, 0.5], [2.0, 0.0]]]


def test_full_gradients_add_up_to_the_score() -> None:
    # What the caller has to give: biases times gradients of the layer's output, at every position.
    first, second, last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 2), nn.Linear(5 * 3 * 2, 2)
    network = seeded(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last)).double()
    image = checks.normal(2, 3, 6, 5).requires_grad_()
    one = first(image)
    two = second(one.relu())
    score = last(two.relu().flatten(1))[:, 1]
    gradients, by_one, by_two = torch.autograd.grad(score.sum(), [image, one, two])
    layers = [by_one * first.bias[:, None, None], by_two * second.bias[:, None, None]]
    total = sum(part.flatten(1).sum(1) for part in (image * gradients, *layers)) + last.bias[1]
    assert (total - score).abs().max() < 1e-12
    assert (score - network(image)[:, 1]).abs().max() < 1e-12
    given = [tensor.detach() for tensor in (image, gradients, *layers)]
    expected = fullgrad_loops(given[0], given[1], given[2:])
    assert checks.relative(fullgrad(given[0], given[1], given[2:]), expected) < 1e-12


def path_of_four(image: Tensor, baseline: Tensor) -> Tensor:
    return integration_path(image, baseline, 4)


def fullgrad_of_one_layer(image: Tensor, gradients: Tensor, layer: Tensor) -> Tensor:
    return fullgrad(image, gradients, [layer])


def rectified_guided_gradcam(cam: Tensor, guided_gradients: Tensor) -> Tensor:
    return guided_gradcam(cam.relu(), guided_gradients)


IMAGE = (3, 4, 5)
CASES = [
    (saliency, [IMAGE]),
    (inputxgradient, [IMAGE, IMAGE]),
    (smoothgrad, [(2, *IMAGE)]),
    (smoothgrad_sq, [(2, *IMAGE)]),
    (vargrad, [(2, *IMAGE)]),
    (expected_gradients, [IMAGE]),
    (path_of_four, [IMAGE, IMAGE]),
    (integrated_gradients, [IMAGE, IMAGE, (2, *IMAGE)]),
    (fullgrad_of_one_layer, [IMAGE, IMAGE, (4, 2, 3)]),
    (rectified_guided_gradcam, [(4, 5), IMAGE]),
]


@pytest.mark.parametrize(("method", "shapes"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_batch_tracing_and_hard_inputs(method: checks.Method, shapes: list[checks.Shape]) -> None:
    checks.assert_batch_is_independent(method, shapes)
    checks.assert_traces(method, shapes)
    if method is not path_of_four:  # images, not a map
        checks.assert_finite_on_hard_inputs(method, shapes, DTYPES)


@pytest.mark.parametrize(("method", "shapes"), [CASES[6], CASES[8]], ids=lambda value: getattr(value, "__name__", ""))
def test_onnx_runtime(method: checks.Method, shapes: list[checks.Shape]) -> None:
    checks.assert_equal_in_onnx_runtime(method, shapes)


def test_docstring_examples() -> None:
    results = doctest.testmod(input_gradient, extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
