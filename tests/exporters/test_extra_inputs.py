"""Extra inputs whose values have a meaning: verification permutes the example's rows and invents no value."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, load
from explainable_model.artifact.reference import check_reference, reference_arrays
from explainable_model.exporters import format_of
from explainable_model.verify.samples import fresh_input
from tests.support.nets import images, seeded

SHAPE = (3, 8, 8)


class Patient(nn.Module):
    """An image with an age, a category, tokens of which the first ``length`` count, and a mask over features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.age, self.category, self.token = nn.Linear(1, 4), nn.Embedding(9, 4), nn.Embedding(20, 4)
        self.head = nn.Linear(16, 3)

    def forward(
        self, image: Tensor, age: Tensor, category: Tensor, tokens: Tensor, length: Tensor, mask: Tensor
    ) -> Tensor:
        features = self.conv(image).relu().mean((2, 3)) * mask
        inside = torch.arange(tokens.shape[1])[None] < length[:, None]  # a length of 0 would divide by it
        text = (self.token(tokens) * inside[..., None]).sum(1) / length[:, None]
        return self.head(torch.cat([features, self.age(age[:, None] / 100), self.category(category), text], 1))


EXAMPLES = (
    torch.tensor([31.0, 67.0]),
    torch.tensor([8, 3]),
    torch.tensor([[5, 19, 2], [7, 11, 13]]),
    torch.tensor([1, 3]),
    torch.tensor([[True, False, True, True], [True, True, True, False]]),
)


@pytest.mark.parametrize("suffix", [".ts", ".onnx"])
def test_values_with_a_meaning(suffix: str, tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Patient()), "conv")
    path = export(explainable, tmp_path / f"net{suffix}", images(2, SHAPE), *EXAMPLES)
    session = load(path)
    others = (
        torch.tensor([1.0, 99.0, 50.0]),
        torch.tensor([0, 1, 2]),
        torch.tensor([[0, 0, 0], [1, 2, 3], [19, 18, 17]]),
        torch.tensor([3, 2, 1]),
        torch.tensor([[True] * 4, [False, True, True, True], [True, True, False, False]]),
    )
    want = explainable(images(3, SHAPE, seed=5), None, *others)
    got = session(images(3, SHAPE, seed=5).numpy(), None, *(other.numpy() for other in others))
    assert np.abs(got.logits - want.logits.numpy()).max() < 1e-5
    assert np.abs(got.cam - want.cam.numpy()).max() < 1e-4
    assert check_reference(session.metadata, format_of(path).open(path, 1)[0]) == ""
    for values, example in zip(reference_arrays(session.metadata)[1:], EXAMPLES, strict=True):
        assert values.tolist() == example.flip(0).tolist()
        assert str(values.dtype) == str(example.dtype).removeprefix("torch.")


def test_rows_are_permuted_where_values_have_a_meaning() -> None:
    for example in EXAMPLES:
        rows = {str(row.tolist()) for row in example}
        made = fresh_input(example, 5, seed=1)
        assert (made.dtype, made.shape) == (example.dtype, (5, *example.shape[1:]))
        assert {str(row.tolist()) for row in made} == rows
    features = torch.randn(2, 6)
    assert (fresh_input(features, 2, seed=1) - features.flip(0)).abs().min() > 0, "any number may stand in a vector"
