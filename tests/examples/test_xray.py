"""The tutorial's hooks beside one call: the code of docs/from-hooks.md, and what is wrong in its first half."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import explainable_model as xm
from explainable_model.errors import ZeroMapWarning

ROOT = Path(__file__).parents[2]
SIXTY_LINES, OURS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "docs" / "from-hooks.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
LAYER = "blocks.4"


@pytest.fixture
def tutorial() -> dict[str, Any]:
    """The names that the tutorial's code defines."""
    names: dict[str, Any] = {}
    exec(compile(SIXTY_LINES, "docs/from-hooks.md", "exec"), names)
    return names


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """The tutorial's network, very narrow, in float64 and with weights that give both signs of evidence."""
    monkeypatch.syspath_prepend(ROOT / "examples" / "xray")
    from xray_network import XrayNetwork

    torch.manual_seed(1)
    network = XrayNetwork(width=2).eval()
    with torch.no_grad():
        head = network.head[0].weight
        head.copy_(torch.linspace(1, 0.2, head.numel()).reshape(head.shape) / 500)
    return network.double()


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64)
    return nn.functional.interpolate(coarse, (256, 256), mode="bicubic")


def by_hooks(tutorial: dict[str, Any], network: nn.Module, images: Tensor, layer: str = LAYER) -> Any:
    """Maps by the tutorial's code, whose hooks are removed here, because it does not do so itself."""
    watched = network.get_submodule(layer)
    tutorial["watch"](watched)
    tutorial["predict"](network, images)
    watched._forward_hooks.popitem()
    watched._backward_hooks.popitem()
    return tutorial["make_heatmaps"]()


def by_one_call(network: nn.Module, images: Tensor, layer: str = LAYER) -> Any:
    """Maps of the layer's size over their largest value, as the tutorial's."""
    return xm.ExplainableModel(network, layer, normalize="max", upsample="none")(images).cam.numpy()


def test_one_film_has_the_same_map(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    heatmap = by_hooks(tutorial, network, images[:1])
    assert heatmap.std() > 0.01
    np.testing.assert_allclose(heatmap, by_one_call(network, images[:1]), atol=1e-9)


def test_the_tutorial_pools_over_the_batch(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    layer = "blocks.3"  # at the last block all films have the same gradient, but for its length
    alone = np.concatenate([by_one_call(network, image[None], layer) for image in images])
    np.testing.assert_allclose(by_one_call(network, images, layer), alone, atol=1e-9)
    together = by_hooks(tutorial, network, images, layer)
    assert np.abs(together / together.max((1, 2), keepdims=True) - alone).max() > 0.01


def test_the_tutorial_divides_by_the_largest_of_all(
    tutorial: dict[str, Any], network: nn.Module, images: Tensor
) -> None:
    assert by_one_call(network, images).max((1, 2)) == pytest.approx(1)
    assert by_hooks(tutorial, network, images).max((1, 2)).min() < 0.99


def test_the_tutorial_scales_in_place(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    first = by_hooks(tutorial, network, images[:1])
    assert np.abs(first - tutorial["make_heatmaps"]()).max() > 0.01
    explainable = xm.ExplainableModel(network, LAYER)
    np.testing.assert_array_equal(explainable(images).cam, explainable(images).cam)


def test_the_tutorial_changes_the_layers_output(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    kept: list[Tensor] = []
    network.get_submodule(LAYER).register_forward_hook(lambda module, inputs, output: kept.append(output.detach()))
    by_one_call(network, images)
    by_hooks(tutorial, network, images)
    assert torch.equal(kept[0], network.blocks(images))
    assert not torch.equal(kept[1], network.blocks(images))


def test_the_tutorial_divides_by_zero(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        network.head[0].weight.abs_().neg_()  # every value speaks against the class
    assert np.isnan(by_hooks(tutorial, network, images)).all()
    with pytest.warns(ZeroMapWarning):
        ours = by_one_call(network, images)
    assert (ours == 0).all()


def test_the_tutorial_loses_the_surest_answers(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    sure = network.float()
    logits = nn.Sequential(sure.blocks, sure.head, nn.Flatten(1)).eval()
    with torch.no_grad():
        sure.head[0].weight.mul_(200 / logits(images[:1].float()).item())
    assert sure(images[:1].float()).item() == 1
    heatmap = by_hooks(tutorial, sure, images[:1].float())
    assert np.isnan(heatmap).all()
    expected = xm.ExplainableModel(logits, "0.4", normalize="max", upsample="none")(images[:1].float()).cam.numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(by_one_call(sure, images[:1].float()), expected, atol=1e-5)


def test_the_tutorial_keeps_its_hooks(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    layer = network.get_submodule(LAYER)
    by_one_call(network, images)
    assert len(layer._forward_hooks) == len(layer._backward_hooks) == 0
    for _ in range(3):
        tutorial["explain"](Image.new("L", (8, 8)), network.float(), layer)
    assert len(layer._forward_hooks) == len(layer._backward_hooks) == 3


def test_the_tutorial_keeps_one_state_for_all(tutorial: dict[str, Any], network: nn.Module, images: Tensor) -> None:
    """A second film, before the first one's map is made, takes its place."""
    tutorial["watch"](network.get_submodule(LAYER))
    tutorial["predict"](network, images[:1])
    tutorial["predict"](network, images[1:])
    np.testing.assert_array_equal(tutorial["make_heatmaps"](), by_hooks(tutorial, network, images[1:]))


def test_the_two_halves_draw_the_same_picture(tutorial: dict[str, Any], network: nn.Module) -> None:
    film = Image.effect_noise((9, 8), 90).resize((300, 280), Image.Resampling.BICUBIC)
    names = {"film": film, "network": network.float(), "layer": LAYER}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZeroMapWarning)
        exec(compile(OURS, "docs/from-hooks.md", "exec"), names)
    probability, picture = tutorial["explain"](film, network, network.get_submodule(LAYER))
    assert names["answer"].probability == pytest.approx(float(probability), abs=1e-6)
    assert names["picture"].size == picture.size == film.size
    assert len(OURS.strip().splitlines()) <= 7
    assert 40 <= len(list(filter(str.strip, SIXTY_LINES.splitlines()))) <= 65
