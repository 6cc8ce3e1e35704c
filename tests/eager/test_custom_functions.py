"""Networks with a ``torch.autograd.Function`` of the user's, whose backward may be no derivative."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, lower
from explainable_model.errors import LoweringError, ModelError
from tests.support.nets import images, seeded


class Binarize(torch.autograd.Function):
    """Straight-through: a step whose backward is the identity's."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        return (values > 0).to(values.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad


class Copy(torch.autograd.Function):
    """Changes nothing, and leaves the backward to others."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        return values.clone()


class Bent(Copy):
    """Weighs the channels by other numbers."""

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * torch.linspace(0.5, 2, grad.shape[1])[:, None, None]


class Swish(torch.autograd.Function):
    """Its backward is the derivative, as in networks that save memory."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(values)
        return values * torch.sigmoid(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        gate = torch.sigmoid(values)
        return grad * gate * (1 + values * (1 - gate))


class Net(nn.Module):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.body, self.head, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(6, 4)
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.function.apply(self.head(self.body(image))).mean((2, 3)))


def test_a_backward_that_is_no_derivative_is_named(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Net(Bent)), "body", signed=True)
    with pytest.raises(LoweringError, match="map of the lowered graph differs.*Function Bent.*straight-through"):
        lower(explainable, images(2))
    with pytest.raises(LoweringError, match="Function Bent"):
        export(explainable, tmp_path / "network.onnx", images(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["gradcam", "ablationcam"])
def test_a_derivative_of_zero_is_named(method: str) -> None:
    explainable = ExplainableModel(seeded(Net(Binarize)), "body", method)
    with pytest.raises(ModelError, match="does not depend on target_layer 'body'.*Function Binarize: a graph takes"):
        lower(explainable, images(2))


def test_other_functions_are_right() -> None:
    explainable = ExplainableModel(seeded(Net(Swish)).double(), "body", signed=True)
    image = images(2).double()
    assert (lower(explainable, image)(image).cam - explainable(image).cam).abs().max() < 1e-10
    through = ExplainableModel(seeded(Net(Binarize)), "body")
    assert through(images(1)).cam.max() > 0.5, "eager mode takes the user's backward"
