"""Networks that are not called as ``network(image, ...)``: ``forward=`` says how, and errors say what to write."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, find_layers, load, lower
from explainable_model.errors import InputError, ModelError, StaticBatchWarning
from tests.support.nets import QUICK_FORMATS, SmallNet, images, seeded

AGE = torch.tensor([[0.5], [2.0]])


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


class AgeFirst(Keyword):
    def forward(self, age: Tensor, image: Tensor) -> Tensor:  # type: ignore[override]
        return self.net(image) + age


class Options(Keyword):
    def forward(self, **options: Tensor) -> Tensor:  # type: ignore[override]
        return self.net(options["pixel_values"])


class Batch(Keyword):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return self.net(batch["photo"])


class Photos(Keyword):
    def forward(self, photos: list[Tensor]) -> Tensor:  # type: ignore[override]
        return self.net(torch.stack(photos))


class PixelIds(nn.Module):
    """Takes the number of a color for each pixel, as ImageGPT does."""

    def __init__(self) -> None:
        super().__init__()
        self.colors, self.norm, self.head = nn.Embedding(16, 8), nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.norm(self.colors(input_ids)).flatten(1, -2).mean(1))


class OneImage(Keyword):
    def forward(self, image: Tensor) -> Tensor:  # type: ignore[override]
        return self.net(image.unsqueeze(0)).squeeze(0)


def call_batch(network: nn.Module, image: Tensor) -> Any:
    return network({"photo": image})


CALLS = [
    (Keyword, "pixel_values", ()),
    (TextFirst, "pixel_values", ()),
    (Options, "pixel_values", ()),
    (AgeFirst, "image", (AGE,)),
    (AgeFirst, ("image", "age"), (AGE,)),
    (AgeFirst, lambda network, image, age: network(age, image), (AGE,)),
    (Batch, call_batch, ()),
    (Photos, lambda network, image: network([*image]), ()),
]
NAMES = [f"{build.__name__}-{forward if not callable(forward) else 'function'}" for build, forward, _ in CALLS]


@pytest.mark.parametrize("layer", ["net.block", None])
@pytest.mark.parametrize(("build", "forward", "inputs"), CALLS, ids=NAMES)
def test_forward_says_how_a_network_is_called(
    build: type[nn.Module], forward: Any, inputs: tuple[Tensor, ...], layer: str | None
) -> None:
    network: Any = seeded(build())
    got = ExplainableModel(network, layer, forward=forward)(images(2), None, *inputs)
    wanted = ExplainableModel(network.net, layer and "block")(images(2), got.class_idx)
    assert torch.equal(got.cam, wanted.cam)
    assert torch.equal(got.logits, wanted.logits + (AGE if inputs else 0))
    layers = [candidate.name for candidate in find_layers(network, images(2), *inputs, forward=forward)]
    assert "net.block" in layers


@pytest.mark.parametrize("suffix", [fmt.suffixes[0] for fmt in QUICK_FORMATS])
@pytest.mark.parametrize(("build", "forward", "inputs"), CALLS[3:7:3], ids=NAMES[3:7:3])
def test_every_format_has_the_call_inside(
    build: type[nn.Module], forward: Any, inputs: tuple[Tensor, ...], suffix: str, tmp_path: Path
) -> None:
    explainable = ExplainableModel(seeded(build()), "net.block", forward=forward)
    session = load(export(explainable, tmp_path / f"network{suffix}", images(2), *inputs))
    assert session.metadata.forward == ([forward] if isinstance(forward, str) else "(call_batch)")
    assert session.metadata.batch is None
    three = images(3), *(torch.cat([extra, extra[:1]]) for extra in inputs)
    wanted = explainable(three[0], None, *three[1:])
    got = session(three[0].numpy(), None, *(extra.numpy() for extra in three[1:]))
    assert (torch.from_numpy(got.cam) - wanted.cam).abs().max() < 1e-4


def test_one_image_without_a_batch(tmp_path: Path) -> None:
    network: Any = seeded(OneImage())
    with pytest.raises(InputError, match="adds a batch dimension of its own.*forward=lambda") as raised:
        ExplainableModel(network, "net.block")(images(1))
    with pytest.raises(ModelError, match=r"without a batch, give \(1, C, H, W\).*forward=lambda"):
        ExplainableModel(network, "net.block")(images(1)[0])
    forward = eval(re.search(r"forward=(lambda .*)\)\.$", str(raised.value))[1])  # type: ignore[index]
    explainable = ExplainableModel(network, "net.block", forward=forward)
    wanted = ExplainableModel(network.net, "block")(images(1))
    assert torch.equal(explainable(images(1)).cam, wanted.cam)
    with pytest.raises(InputError, match="one image at a time"):
        explainable(images(2))
    with pytest.warns(StaticBatchWarning, match="exactly 1"):
        session = load(export(explainable, tmp_path / "network.ts", images(1)))
    assert session.metadata.batch == 1
    first = ExplainableModel(network, "net.block", forward=lambda network, image: network(image[0])[None])
    with pytest.warns(StaticBatchWarning, match="exactly 1"):
        assert torch.allclose(lower(first, images(1))(images(1)).cam, wanted.cam, atol=1e-6)
    with pytest.raises(ModelError, match=r"logits of shape \(1, 5\) for 2 image"):
        first(images(2))


@pytest.mark.parametrize(
    ("build", "reason", "forward"),
    [
        (Keyword, "do not fit", "'pixel_values'"),
        (Options, "do not fit", "'pixel_values'"),
        (TextFirst, "'input_ids', not the image", "'pixel_values'"),
        (TwoInputs, "missing a required.*'age'", "'image'"),
        (AgeFirst, "missing a required.*'image'", "'image'"),
        (Batch, "too many indices", "lambda network, image: network({'photo': image})"),
    ],
)
@pytest.mark.parametrize("layer", ["net.block", None])
def test_the_argument_to_write_is_shown(build: type[nn.Module], reason: str, forward: str, layer: str | None) -> None:
    with pytest.raises((ModelError, InputError), match=f"(?s){reason}.*{re.escape(f'forward={forward}')}"):
        ExplainableModel(seeded(build()), layer)(images(2))


@pytest.mark.parametrize("layer", ["norm", None])
def test_a_network_that_takes_ids(layer: str | None) -> None:
    with pytest.raises(InputError, match="PixelIds looks values up.*'input_ids', takes whole numbers.*forward="):
        ExplainableModel(seeded(PixelIds()), layer)(images(2))


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        ("pixel_value", r"TextFirst.forward\(input_ids, pixel_values\) does not take forward='pixel_value'"),
        (["pixel_values", "input_ids"], "names 2 parameters, and 1 tensors were given"),
    ],
)
def test_names_that_the_network_does_not_have(forward: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ExplainableModel(seeded(TextFirst()), "net.block", forward=forward)(images(2))


@pytest.mark.parametrize("forward", [3, (), ["image", 2]])
def test_forward_is_names_or_a_function(forward: Any) -> None:
    with pytest.raises(TypeError, match="forward is .*expected the name of the parameter that takes the image"):
        ExplainableModel(seeded(TextFirst()), "net.block", forward=forward)


def test_a_container_is_no_image() -> None:
    for image, call in (({"image": images(2)}, "network({'image': image})"), ([images(2)[0]], "network(list(image))")):
        with pytest.raises(InputError, match=f"image is .*; expected a torch.Tensor.*{re.escape(call)}"):
            ExplainableModel(seeded(SmallNet()), "block")(image)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="with the batch of 2 first. What all images share goes into a function"):
        ExplainableModel(seeded(TwoInputs()), "net.block")(images(2), None, torch.ones(3, 1))
