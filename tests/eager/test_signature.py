"""Networks whose first argument is not the image."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import InputError, ModelError
from tests.support.nets import SmallNet, images, seeded


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet()

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        return self.net(pixel_values)


class TextFirst(Keyword):
    def forward(self, input_ids: Tensor | None = None, pixel_values: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.net(pixel_values)


class TwoInputs(Keyword):
    def forward(self, image: Tensor, age: Tensor) -> Tensor:  # type: ignore[override]
        return self.net(image) + age


@pytest.mark.parametrize(
    ("build", "reason"),
    [(Keyword, "do not fit"), (TextFirst, "'input_ids', not the image"), (TwoInputs, "missing a required.*'age'")],
)
@pytest.mark.parametrize("layer", ["net.block", None])
def test_the_wrapper_to_write_is_shown(build: type[nn.Module], reason: str, layer: str | None) -> None:
    with pytest.raises(ModelError, match=f"(?s){reason}.*class ImageFirst"):
        ExplainableModel(seeded(build()), layer)(images(2))


@pytest.mark.parametrize("build", [Keyword, TextFirst])
def test_the_wrapper_works(build: type[nn.Module]) -> None:
    network, namespace = seeded(build()), {}
    with pytest.raises(ModelError) as raised:
        ExplainableModel(network, "net.block")(images(2))
    exec(str(raised.value).split("wrap it:\n")[1], {"torch": torch}, namespace)
    wrapped = namespace["ImageFirst"](network).eval()
    got = ExplainableModel(wrapped, "network.net.block")(images(2))
    assert torch.equal(got.cam, ExplainableModel(network.net, "block")(images(2)).cam)


def test_a_container_is_no_image() -> None:
    with pytest.raises(InputError, match="image is dict; expected a torch.Tensor.*Wrap the network in a module"):
        ExplainableModel(seeded(SmallNet()), "block")({"image": images(2)})  # type: ignore[arg-type]
