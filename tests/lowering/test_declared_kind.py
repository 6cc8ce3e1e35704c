"""The kind of output that the network, its wrapper or the target tells."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower, targets
from explainable_model.lowering.eager_kind import find_output_kind
from tests.support.endings import SHAPE, Ending, identity
from tests.support.nets import images, seeded


class Declaring(Ending):
    """A small network that tells what its values are."""

    def __init__(self, classes: int, end: Callable[[Tensor], Any] = identity, **attributes: Any) -> None:
        super().__init__(end, classes)
        for name, value in attributes.items():
            setattr(self, name, value)


@pytest.mark.parametrize(
    ("network", "target", "kind"),
    [
        (Declaring(1), targets.Binary(), "binary_logits"),
        (Declaring(1), targets.Binary(threshold=40), "scores"),
        (Declaring(1, torch.sigmoid), targets.Binary(threshold=0.5), "binary"),
        (Declaring(1, torch.relu), targets.Binary(), "scores"),
        (Declaring(1, loss=nn.BCEWithLogitsLoss()), None, "binary_logits"),
        (Declaring(1, loss=nn.MSELoss()), None, "scores"),
        (Declaring(3, loss=nn.BCEWithLogitsLoss()), None, "sigmoid_logits"),
        (Declaring(3, loss=nn.SmoothL1Loss()), None, "scores"),
        (Declaring(3, loss=nn.CrossEntropyLoss()), None, "logits"),
        (Declaring(3, loss=nn.CrossEntropyLoss(), other=nn.MSELoss()), None, "logits"),
        (Declaring(3, torch.sigmoid, loss=nn.MSELoss()), None, "sigmoid"),
        (Declaring(3, config=SimpleNamespace(problem_type="multi_label_classification")), None, "sigmoid_logits"),
        (Declaring(1, config=SimpleNamespace(problem_type="regression")), None, "scores"),
        (Declaring(2, config=SimpleNamespace(problem_type="regression")), None, "scores"),
        (Declaring(3, config=SimpleNamespace(problem_type=None)), None, "logits"),
        (Declaring(3, output_kind="sigmoid_logits"), None, "sigmoid_logits"),
        (Declaring(3, output_kind="of my own"), None, "logits"),
    ],
)
def test_the_network_or_the_target_tells(network: nn.Module, target: Any, kind: str) -> None:
    assert ExplainableModel(seeded(network), "conv", target=target)(images(1, SHAPE)).output_kind == kind


@pytest.mark.parametrize(
    ("network", "target", "kind"),
    [
        (Declaring(1), targets.Binary(), "binary_logits"),
        (Declaring(3, loss=nn.BCEWithLogitsLoss()), None, "sigmoid_logits"),
    ],
)
def test_a_lowered_network_tells_it_too(network: nn.Module, target: Any, kind: str) -> None:
    assert lower(ExplainableModel(seeded(network), "conv", target=target), images(1, SHAPE)).output_kind == kind


class Tasks(Ending):
    """Tags and a kind, of which the tags have a loss in the network."""

    def __init__(self) -> None:
        super().__init__(lambda x: {"tags": x[:, :3], "kind": x[:, 3:]}, 6)
        self.loss = nn.BCEWithLogitsLoss()


def test_a_loss_is_that_of_another_task() -> None:
    explainable = ExplainableModel(seeded(Tasks()), "conv", output="kind")
    assert explainable(images(1, SHAPE)).output_kind == "logits"
    assert lower(explainable, images(1, SHAPE)).output_kind == "logits"


def test_a_wrapper_tells_what_is_in_it() -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout()
            self.inner = Declaring(3, config=SimpleNamespace(problem_type="multi_label_classification"))

        def forward(self, image: Tensor) -> Any:
            return self.inner(self.drop(image))

    explainable = ExplainableModel(seeded(Wrapper()), "inner.conv")
    assert explainable(images(1, SHAPE)).output_kind == "sigmoid_logits"


def test_an_activation_of_the_users_own_has_no_percentage() -> None:
    class Sigmoid(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(y := x.sigmoid())
            return y

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            (y,) = ctx.saved_tensors
            return grad * y * (1 - y)

    assert find_output_kind(seeded(Ending(Sigmoid.apply, 4)), images(2, SHAPE)) == "scores"


def test_the_users_word_holds_where_a_value_is_negative() -> None:
    def pooled(x: Tensor) -> Tensor:
        return ((5 * x).exp().mean(1, keepdim=True)).log() / 5 - 2  # log-sum-exp by hand

    explainable = ExplainableModel(seeded(Ending(pooled, 3)), "conv", target=targets.Binary())
    answer = explainable(images(2, SHAPE))
    assert (answer.logits < 0).all()
    assert answer.output_kind == "binary_logits"
