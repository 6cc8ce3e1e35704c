"""What the automatic choice says and looks at: blank images, few images, the other inputs of one image."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.eager.find_layer import default_layer
from explainable_model.errors import DoubtfulPlacesWarning, LayerError, ModelError
from tests.eager.test_small_grids import Reader
from tests.support.nets import TinyViT, images, seeded


class Dark(nn.Module):
    """Sees what is brighter than zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False))
        self.head = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image).relu().mean((2, 3)) * 1)


def test_a_blank_image_is_named_as_the_reason() -> None:
    network = seeded(Dark())
    nn.init.zeros_(network.head.weight)
    with pytest.raises(LayerError, match="all values of the image are equal, which may turn every ReLU off"):
        default_layer(network, torch.zeros(1, 1, 16, 16))
    with pytest.raises(LayerError, match="depends on none") as caught:
        default_layer(network, images(1, (1, 16, 16)))
    assert "are equal" not in str(caught.value)


@pytest.mark.parametrize("count", [3, 5])
def test_the_automatic_choice_runs_few_images_of_one_channel(count: int) -> None:
    network, batches = seeded(Dark()), []
    network.register_forward_hook(lambda module, inputs, output: batches.append(len(inputs[0])))
    assert default_layer(network, images(count, (1, 16, 16)).abs()) == "body"
    assert set(batches) == {2}


class Weighed(nn.Module):
    """A transformer with a further input for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = TinyViT()

    def forward(self, image: Tensor, weight: Tensor) -> Tensor:
        return self.vit(image) * weight.prod(1, keepdim=True)


@pytest.mark.filterwarnings("error")
def test_other_inputs_of_one_image_go_along_where_places_are_checked() -> None:
    """Whether tokens are places is tested with copies of one image, which need its other input as often."""
    network, weights = seeded(Weighed()), torch.tensor([[1.0, 1.0], [2.0, 0.5], [0.25, 4.0]])
    try:
        got = ExplainableModel(network, "vit.blocks.1.norm1")(images(3), [0, 1, 2], weights)
    except DoubtfulPlacesWarning:
        pytest.fail("the patches of this network are places")
    want = ExplainableModel(seeded(Weighed()).vit, "blocks.1.norm1")(images(3), [0, 1, 2])
    torch.testing.assert_close(got.cam, want.cam)


class WeighedReader(Reader):
    """Words that attend to an image, with a further input for each image."""

    def forward(self, image: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(image) * weight.prod(1, keepdim=True)


def test_text_beside_other_inputs_is_refused() -> None:
    """Where the copies do not run, nothing is known of the tokens, and text would pass."""
    with pytest.raises(LayerError, match="no token follows one place|another order"):
        ExplainableModel(seeded(WeighedReader(16)), "text")(images(2), None, torch.tensor([[1.0, 2.0], [2.0, 0.5]]))


@pytest.mark.parametrize("layer", [None, "blocks.0"])
def test_a_forward_in_inference_mode_is_refused(layer: str | None) -> None:
    class Decorated(TinyViT):
        @torch.inference_mode()
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image)

    with pytest.raises(
        ModelError, match=r"Decorated enters torch.inference_mode\(\) in its forward, .* decorators too"
    ):
        ExplainableModel(seeded(Decorated()), layer)(images(2))


def test_batch_norm_without_running_statistics_explains_one_image_at_a_time() -> None:
    network = seeded(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Identity(), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    network[1], image = nn.BatchNorm2d(8, track_running_stats=False).eval(), images(3)
    with pytest.raises(
        ModelError, match="BatchNorm2d '1' has no running statistics .* each of the 3 maps would depend"
    ):
        ExplainableModel(network, "0", "layercam")(image)
    alone = ExplainableModel(network, "0", "layercam", normalize="none")(image[:1], 1).cam
    kept = network[0](image[:1]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network[1:](kept)[0, 1], kept)
    wanted = (gradient.relu() * kept).sum(1, keepdim=True).relu()
    torch.testing.assert_close(alone, nn.functional.interpolate(wanted, image.shape[2:], mode="bilinear")[:, 0])
    for options in ({"augment": True}, {"smooth": 4}, {"method": "smoothgrad"}):
        with pytest.raises(ModelError, match="'1' has no running statistics .* the copies of the image that .* would"):
            ExplainableModel(network, "0", **options)(image[:1])
    explainable = ExplainableModel(network, "2", "layercam", normalize="none")
    with pytest.raises(ModelError, match="would mix the images of a batch. .* for one image, with dynamic_batch=False"):
        lower(explainable, image[:1])
    closed = lower(explainable, image[:1], dynamic_batch=False)
    torch.testing.assert_close(closed(image[:1]).cam, explainable(image[:1]).cam)
