"""Captum's own cases: its networks and its table of calls, as its wheel ships them, and the values of its test suite.

The values are those of captum's repository, ``tests/attr`` and ``tests/attr/layer``; each case names its file.
"""

import copy
from typing import Any

import captum.attr
import pytest
import torch
from captum.testing.attr.helpers.test_config import config
from captum.testing.helpers import basic_models
from captum.testing.helpers.classification_models import SoftmaxModel
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.model import lower
from tests.peers.adapters import leaf

# Captum announces that it hooks every ReLU, and that it takes the hooks away again: it did nothing wrong.
pytestmark = pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations:UserWarning")


class Row(nn.Module):
    """A network of vectors ``(N, F)`` as one of images ``(N, 1, F)``."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(image.squeeze(1))
        return scores


class Pair(nn.Module):
    """A network of two numbers as one of images of two pixels; its score is the only class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(image[:, :, 0], image[:, :, 1])
        return scores


class Total(nn.Module):
    """The sum of what a network returns, as the only class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.network(image).flatten(1).sum(1, keepdim=True)
        return scores


def own_output(output: Tensor, class_idx: Tensor) -> Tensor:
    """The output itself: captum differentiates a probability where the network ends in one."""
    return output.gather(1, class_idx.unsqueeze(1)).squeeze(1)


def raw(
    form: str, network: nn.Module, layer: str | None, method: str, image: Tensor, *inputs: Tensor, **options: Any
) -> Tensor:
    """The signed map of class 0, neither scaled nor resized unless asked."""
    arguments = {"signed": True, "normalize": False, "upsample": False, **options}
    explainable = ExplainableModel(network.eval(), layer, method, **arguments)
    if form == "lowered":
        return lower(explainable, image, *inputs)(image, torch.tensor([0]), *inputs).cam
    return explainable(image, 0, *inputs).cam


RAMP = torch.arange(16.0).reshape(1, 1, 4, 4)
ONES = torch.ones(1, 1, 4, 4)
WITH_ONES = [[14.5, 29, 38, 19], [29, 58, 76, 38], [65, 130, 148, 74], [32.5, 65, 74, 37]]
VALUES = [
    # layer/test_grad_cam.py
    ("gradcam", "conv1", (), False, [[11.25, 13.5], [20.25, 22.5]]),
    ("gradcam", "relu1", (), False, [[0, 4], [28, 32.5]]),
    ("gradcam", "conv1", (ONES,), False, [[14.5, 19], [32.5, 37]]),
    # test_guided_backprop.py
    ("guided_backprop", None, (), False, [[0, 1, 1, 1], [1, 3, 3, 2], [1, 3, 3, 2], [1, 2, 2, 1]]),
    ("guided_backprop", None, (ONES,), False, [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]),
    # test_guided_grad_cam.py: in place, too
    ("guided_gradcam", "relu1", (), False, [[0, 0, 4, 4], [0, 0, 12, 8], [28, 84, 97.5, 65], [28, 56, 65, 32.5]]),
    ("guided_gradcam", "conv1", (ONES,), False, WITH_ONES),
    ("guided_gradcam", "conv1", (ONES,), True, WITH_ONES),
]


FORMS = pytest.mark.parametrize("form", ["eager", "lowered"])


@FORMS
@pytest.mark.parametrize(("method", "layer", "inputs", "inplace", "expected"), VALUES)
def test_values_of_one_convolution(
    form: str, method: str, layer: str | None, inputs: tuple[Tensor, ...], inplace: bool, expected: list[Any]
) -> None:
    network = basic_models.BasicModel_ConvNet_One_Conv(inplace)
    nearest = {"upsample": "nearest"} if method == "guided_gradcam" else {}
    cam = raw(form, network, layer, method, RAMP, *inputs, **nearest)
    assert torch.allclose(cam, torch.tensor([expected], dtype=torch.float32), atol=0.01)


@FORMS
def test_values_of_gradients(form: str) -> None:
    # test_saliency.py and test_input_x_gradient.py: y = 1 - relu(1 - x), whose slope is 1 below 1.
    image = torch.tensor([[[1.0, 2, 3, 0, -1, 7]]])
    network = Total(basic_models.BasicModel())
    assert raw(form, network, None, "saliency", image).tolist() == [[0, 0, 0, 1, 1, 0]]
    assert raw(form, network, None, "inputxgradient", image).tolist() == [[0, 0, 0, 0, -1, 0]]


@FORMS
@pytest.mark.parametrize("build", [basic_models.BasicModel2, basic_models.BasicModel3])
def test_values_of_integrated_gradients(form: str, build: type[nn.Module]) -> None:
    # test_integrated_gradients_basic.py: two networks that compute the same function have the same attributions.
    image = torch.tensor([[[3.0, 1.0]]])
    cam = raw(form, Pair(build()), None, "integrated_gradients", image, options={"steps": 100})
    assert torch.allclose(cam, torch.tensor([[1.5, -0.5]]), atol=0.05)


def test_integrated_gradients_add_up() -> None:
    # test_integrated_gradients_classification.py: to the difference of the scores, within 0.005 after 200 steps.
    torch.manual_seed(1234)
    network = SoftmaxModel(40, 20, 10)
    image, classes = torch.arange(120.0).reshape(3, 1, 40), [5, 5, 2]
    explainable = ExplainableModel(
        Row(network).eval(), None, "integrated_gradients", signed=True, normalize=False, target=own_output,
        options={"steps": 200},
    )  # fmt: skip
    given = network(image.squeeze(1)) - network(torch.zeros(3, 40))
    total = explainable(image, classes).cam.sum(1)
    assert (total - given[torch.arange(3), classes]).abs().max() < 0.005


SHARED = {
    captum.attr.Saliency: "saliency",
    captum.attr.InputXGradient: "inputxgradient",
    captum.attr.IntegratedGradients: "integrated_gradients",
    captum.attr.GuidedBackprop: "guided_backprop",
    captum.attr.LayerGradCam: "gradcam",
    captum.attr.LayerGradientXActivation: "hirescam",
    captum.attr.GuidedGradCam: "guided_gradcam",
}
UNSIGNED = ("saliency", "guided_backprop", "guided_gradcam")
# Several inputs that are explained, a target that is a tuple, a baseline, and a layer without places have no map here.
CALLS = [
    (entry, algorithm)
    for entry in config
    for algorithm in entry["algorithms"]
    if algorithm in SHARED
    and isinstance(entry["attribute_args"]["inputs"], Tensor)
    and set(entry["attribute_args"]) <= {"inputs", "target"}
    and not entry.get("noise_tunnel")
    and isinstance(entry["attribute_args"].get("target"), int | list | Tensor)
    and not (entry.get("layer") and entry["attribute_args"]["inputs"].ndim == 2)
]


def test_the_table_of_captum_has_calls_for_every_shared_method() -> None:
    assert {algorithm for _, algorithm in CALLS} == set(SHARED)
    assert len(CALLS) >= 15


@pytest.mark.parametrize(
    ("entry", "algorithm"), CALLS, ids=[f"{entry['name']}-{algorithm.__name__}" for entry, algorithm in CALLS]
)
def test_calls_of_the_table(entry: dict[str, Any], algorithm: type[Any]) -> None:
    network, layer, method = copy.deepcopy(entry["model"]).eval(), entry.get("layer"), SHARED[algorithm]
    inputs, target = entry["attribute_args"]["inputs"], entry["attribute_args"]["target"]
    middle = {"method": "riemann_middle", "n_steps": 32} if method == "integrated_gradients" else {}
    linear = {"interpolate_mode": "bilinear"} if method == "guided_gradcam" else {}
    attribution = algorithm(network, *([network.get_submodule(layer)] if layer else []))
    shares = attribution.attribute(leaf(inputs), target=target, **middle, **linear).detach()
    vectors = inputs.ndim == 2
    if not vectors:
        shares = shares.abs().amax(1) if method in UNSIGNED else shares.sum(1)
    elif method in UNSIGNED:
        shares = shares.abs()
    explainable = ExplainableModel(
        Row(network).eval() if vectors else network, layer, method, signed=True, normalize=False, upsample=False,
        target=own_output,
    )  # fmt: skip
    classes = torch.as_tensor(target).flatten().expand(len(inputs))
    cam = explainable(inputs.unsqueeze(1) if vectors else inputs, classes).cam
    # Images of one value have a gradient of zero; the library keeps the rounding noise of it, 1e-6, which is zero here.
    assert (cam - shares).abs().max() < max(1e-5 * float(shares.abs().max()), 3e-6)
