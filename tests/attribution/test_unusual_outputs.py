"""Outputs that people write: sorted scores, other layouts of tensors, other precision."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.errors import ModelError
from tests.support.nets import images, seeded


class Ended(nn.Module):
    def __init__(self, end: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.fc, self.end = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4), end

    def forward(self, image: Tensor) -> Any:
        return self.end(self.fc(self.body(image).relu().mean((2, 3))))


def two_largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    values, indices = logits.softmax(1).topk(2)
    return values, indices


def picked(logits: Tensor) -> dict[str, Tensor]:
    labels = logits.argmax(1)
    return {"label": labels, "score": logits.softmax(1)[torch.arange(len(labels)), labels]}


def best(logits: Tensor, keepdim: bool = False) -> dict[str, Tensor]:
    probabilities, classes = logits.softmax(1).max(1, keepdim=keepdim)
    return {"pred": classes, "prob": probabilities}


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "topk": (lambda logits: logits.topk(3), "torch.return_types.topk, values and indices: .* a rank and no class"),
    "sort": (lambda logits: logits.sort(1), "torch.return_types.sort, values and indices"),
    "max": (lambda logits: logits.max(1), "torch.return_types.max, values and indices"),
    "values of topk": (lambda logits: logits.topk(3).values, "scores behind torch.topk: .* a rank and no class"),
    "probabilities and indices": (two_largest, "scores behind torch.topk"),
    "percent, sorted": (lambda logits: 100 * logits.softmax(1).sort(descending=True).values, "behind torch.sort"),
    "softmax of sorted": (lambda logits: logits.sort(dim=-1).values.softmax(1), "behind torch.sort"),
    "the best class and its probability": (best, "beside a whole number: the score of the class that it predicts"),
    "the same, as columns": (lambda logits: best(logits, keepdim=True), "beside a whole number"),
    "the same, as logarithm": (
        lambda logits: (logits.argmax(1), logits.log_softmax(1).amax(1)),
        "beside a whole number",
    ),
    "the same, by its number": (picked, "beside a whole number"),
    "the same, gathered": (
        lambda logits: (logits.argmax(1), logits.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)),
        "beside a whole number",
    ),
    "the first of the sorted": (
        lambda logits: (logits.argmax(1), logits.sort(1, descending=True).values[:, 0]),
        "beside a whole number",
    ),
    "sparse": (Tensor.to_sparse, r"a sparse tensor; .*output\.to_dense\(\)"),
    "nested": (lambda logits: torch.nested.nested_tensor(list(logits)), r"a nested tensor; .*to_padded_tensor"),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("name", REFUSED)
def test_sorted_scores_and_other_layouts_are_refused(name: str) -> None:
    end, words = REFUSED[name]
    with pytest.raises(ModelError, match=words):
        ExplainableModel(seeded(Ended(end)), "body")(images(2))


@pytest.mark.parametrize("output", ["prob", None])
def test_one_score_beside_whole_numbers_is_explained_where_it_is_of_one_class(output: str | None) -> None:
    """Where the user says so, and where it is not picked from several: a yes or no with its probability."""

    def present(logits: Tensor) -> dict[str, Tensor]:
        probability = logits.softmax(1)[:, 1] if output is None else logits.sigmoid().amax(1)
        return {"pred": (probability > 0.5).long(), "prob": probability}

    network, plain = seeded(Ended(present)), seeded(Ended(lambda logits: present(logits)["prob"]))
    got = ExplainableModel(network, "body", output=output)(images(2))
    assert got.cam.any()
    assert torch.equal(got.cam, ExplainableModel(plain, "body")(images(2)).cam)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_in_less_precision_than_the_network(dtype: torch.dtype) -> None:
    network = seeded(Ended(lambda logits: logits.to(dtype)))
    got = ExplainableModel(network, "body")(images(2), [1, 2])
    assert got.logits.dtype == dtype
    want = ExplainableModel(seeded(Ended(lambda logits: logits)), "body")(images(2), [1, 2])
    assert (got.cam - want.cam).abs().max() < 0.02


def test_scores_that_are_sorted_inside_the_network_are_explained() -> None:
    def trimmed(logits: Tensor) -> Tensor:
        """The classes less the mean of the two in the middle."""
        return logits - logits.sort(1).values[:, 1:3].mean(1, keepdim=True)

    explanation = ExplainableModel(seeded(Ended(trimmed)), "body", signed=True)(images(2))
    assert explanation.cam.abs().amax() > 0.5
