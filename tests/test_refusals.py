"""Arguments of the wrong kind: the error says what was got and what was expected."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from explainable_model import targets
from explainable_model.errors import InputError
from explainable_model.imaging.overlay import heatmap, overlay
from explainable_model.imaging.sheets import panel
from tests.support.nets import TinyResNet, seeded

NETWORK = seeded(TinyResNet(3))
IMAGE = torch.zeros(1, 3, 8, 8)
PHOTO = Image.new("RGB", (20, 16))
MAP = np.zeros((4, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: xm.find_layers(NETWORK, None), InputError, "image is NoneType; expected a torch.Tensor"),
        (lambda: xm.find_layers(NETWORK, np.zeros((1, 3, 8, 8))), InputError, "Convert it: torch.from_numpy"),
        (lambda: xm.find_layers(NETWORK, torch.zeros(1, 4, 8, 8)), InputError, r"4 channel\(s\); .* expects 3"),
        (
            lambda: xm.lower(xm.ExplainableModel(NETWORK), "cat.jpg"),
            InputError,
            "image is str; expected a torch.Tensor",
        ),
        (lambda: xm.ExplainableModel(NETWORK)(IMAGE.to_sparse()), InputError, "expected a dense tensor"),
        (lambda: xm.ExplainableModel(NETWORK, normalize=torch.zeros(0))(IMAGE), ValueError, "normalize is tensor"),
        (lambda: xm.ExplainableModel(NETWORK, size=(4, 4, 4))(IMAGE), ValueError, r"expected 2 length\(s\)"),
        (
            lambda: xm.ExplainableModel(NETWORK, target=targets.Difference("cat"))(IMAGE),
            InputError,
            r"Difference\(other='cat'\): expected a class, 0 to 2",
        ),
        (lambda: xm.load(None), InputError, "The path is NoneType; expected str or Path"),
        (lambda: xm.read_metadata(3), InputError, "The path is int; expected str or Path"),
        (
            lambda: xm.export(xm.ExplainableModel(NETWORK), b"x.onnx", IMAGE),
            InputError,
            "which is bytes; expected str or",
        ),
        (lambda: overlay(PHOTO, MAP, box="left"), InputError, "box is 'left'; expected four numbers"),
        (lambda: overlay(PHOTO, MAP, box=(0, 0, 8)), InputError, "expected four numbers"),
        (lambda: overlay(PHOTO, MAP, box=(0, 0, 8, 8), alpha="much"), InputError, "alpha is 'much'; expected a number"),
        (lambda: overlay(PHOTO, MAP, threshold=torch.zeros(0)), InputError, "threshold is tensor"),
        (lambda: panel(PHOTO, MAP, "caption", {}), InputError, "expected four numbers"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_map_with_a_gradient_is_drawn() -> None:
    cam = torch.eye(4, requires_grad=True)
    assert np.array_equal(heatmap(cam), heatmap(np.eye(4)))
