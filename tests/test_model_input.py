"""Bad input to the wrapper, and inputs of other shapes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from explainable_model import ExplainableModel
from explainable_model.errors import InputError, LayerError, ModelError
from tests.support.nets import TinyResNet, TinyViT, images, seeded


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
