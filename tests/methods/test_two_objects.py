"""Real weights on a picture of two things: the map of a class lies on that thing, where the method knows classes."""

import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel
from explainable_model.demo import demo_photos, efficientnet_lite0
from explainable_model.networks.named import NamedModel

CAT, ESPRESSO = 285, 967
SIDES = ((90, 0, 390, 300), (130, 0, 430, 300))  # of the cat and of the cup


@pytest.fixture(scope="module")
def named() -> NamedModel:
    torch.set_num_threads(1)
    return efficientnet_lite0()


@pytest.fixture(scope="module")
def image(named: NamedModel) -> torch.Tensor:
    """A cat on the left, a cup of coffee on the right."""
    assert named.preprocess is not None
    both = Image.new("RGB", (600, 300))
    for number, (path, side) in enumerate(zip(demo_photos()[:2], SIDES, strict=True)):
        with Image.open(path) as photo:
            part = photo.convert("RGB").resize((450, 300)).crop(side)
        both.paste(part, (300 * number, 0))
    return torch.from_numpy(named.preprocess(both))


@pytest.mark.parametrize(
    ("method", "least"),
    [("gradcam", 0.6), ("xgradcam", 0.6), ("hirescam", 0.6), ("cam", 0.6), ("finercam", 0.6), ("layercam", 0.2)],
)
def test_the_map_moves_with_the_class(named: NamedModel, image: torch.Tensor, method: str, least: float) -> None:
    explainable = ExplainableModel(named.model, None, method)
    cam = explainable(image.repeat(2, 1, 1, 1), torch.tensor([CAT, ESPRESSO])).cam
    left = cam[:, :, :112].sum((1, 2)) / cam.sum((1, 2))
    assert left[0] > 0.7, "the cat is on the left"
    assert left[0] - left[1] > least, "the cup is on the right"


def test_eigencam_knows_no_class(named: NamedModel, image: torch.Tensor) -> None:
    cam = ExplainableModel(named.model, None, "eigencam")(image.repeat(2, 1, 1, 1), torch.tensor([CAT, ESPRESSO])).cam
    assert (cam[0] - cam[1]).abs().max() < 1e-5
