"""``Explanation.probabilities``: those that the network predicts, as tensors and as arrays."""

import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, NamedModel, Preprocess, export, load, lower, read_metadata, targets
from explainable_model.artifact.metadata import parse_metadata
from explainable_model.explainer.answers import describe_classes, label_class
from explainable_model.explainer.explainer import artifact_explainer, model_explainer
from explainable_model.explanation import Explanation, to_probabilities
from tests.support.nets import images, seeded

SIZE = (3, 16, 16)


class Ending(nn.Module):
    """A convolution, the mean of its map, and what a network may end in."""

    def __init__(self, end: Callable[[Tensor], Tensor], classes: int = 3) -> None:
        super().__init__()
        self.conv, self.head, self.end = nn.Conv2d(3, 4, 3, 2), nn.Linear(4, classes), end

    def forward(self, image: Tensor) -> Tensor:
        return self.end(self.head(self.conv(image).tanh().mean((2, 3))))


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], int, Callable[[Tensor], Tensor]]] = {
    "logits": (lambda z: z * 1, 3, lambda z: z.softmax(1)),
    "softmax": (lambda z: z.softmax(1), 3, lambda z: z.softmax(1)),
    "sigmoid": (lambda z: z.sigmoid(), 3, lambda z: z.sigmoid()),
    "binary": (lambda z: z.sigmoid(), 1, lambda z: z.sigmoid()),
    "binary_logits": (lambda z: z * 1, 1, lambda z: z.sigmoid()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_probabilities_are_those_of_the_network(kind: str, tmp_path: Path) -> None:
    end, classes, expected = KINDS[kind]
    network, image = seeded(Ending(end, classes)), images(2, SIZE)
    target = targets.Binary() if kind == "binary_logits" else None
    explainable = ExplainableModel(network, "conv", target=target)
    with torch.no_grad():
        wanted = expected(network.head(network.conv(image).tanh().mean((2, 3))))
    answer = explainable(image)
    assert answer.output_kind == kind
    assert torch.allclose(answer.probabilities, wanted, atol=1e-6)
    lowered = lower(explainable, image)(image)
    assert lowered.output_kind == kind
    assert torch.allclose(lowered.probabilities, wanted, atol=1e-6)
    if kind in ("logits", "binary"):
        loaded = load(export(explainable, tmp_path / "net.ts", image))(image.numpy())
        assert isinstance(loaded.probabilities, np.ndarray)
        assert abs(loaded.probabilities - wanted.numpy()).max() < 1e-5


def test_a_multi_label_network_says_so() -> None:
    answer = Explanation(np.array([[2.0, -1.0]]), np.array([0]), np.zeros((1, 4, 4)))
    assert np.allclose(answer.with_kind("sigmoid_logits").probabilities, 1 / (1 + np.exp([[-2.0, 1.0]])))
    assert np.allclose(answer.with_kind("logits").probabilities, np.exp([[2, -1]]) / np.exp([2, -1]).sum())


def test_pixels_have_probabilities_each() -> None:
    maps = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(to_probabilities(maps, "logits"), maps.softmax(1))


@pytest.mark.parametrize("kind", [None, "scores"])
def test_an_unknown_output_says_what_to_write(kind: str | None) -> None:
    answer = Explanation(torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 2, 2)).with_kind(kind)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no probabilities\. Write explanation\.with_kind\(.*sigmoid_logits"):
        _ = answer.probabilities
    with pytest.raises(ValueError, match="output_kind is 'odds'"):
        _ = answer.with_kind("odds").probabilities  # type: ignore[arg-type]


def test_a_thin_wrapper_is_no_probability() -> None:
    explainable = ExplainableModel(seeded(Ending(lambda z: z.softmax(1) * 100)), "conv")
    with pytest.raises(ValueError, match="scores of no known kind"):
        _ = explainable(images(1, SIZE)).probabilities


def test_an_explanation_is_still_three_values() -> None:
    logits, class_idx, cam = answer = ExplainableModel(seeded(Ending(lambda z: z)), "conv")(images(1, SIZE))
    assert answer[0] is logits
    assert answer.cam is cam
    assert answer._fields == ("logits", "class_idx", "cam")
    named = answer.with_kind("logits")
    for other in (copy.copy(named), pickle.loads(pickle.dumps(named))):
        assert torch.equal(other.class_idx, class_idx)
        assert other.output_kind == "logits"
    assert pickle.loads(pickle.dumps(answer)).output_kind is None, "a copy does not carry the network"


def pneumonia(probability: float) -> Explanation[np.ndarray]:  # type: ignore[type-arg]
    return Explanation(np.array([[probability]]), np.array([0]), np.zeros((1, 4, 4)))


@pytest.mark.parametrize(("threshold", "words"), [(0.5, "no pneumonia, 30%"), (0.2, "pneumonia, 30%")])
def test_the_threshold_says_what_is_present(threshold: float, words: str) -> None:
    record = describe_classes(pneumonia(0.3), ["pneumonia"], "binary", threshold=threshold)
    assert record["present"] == (threshold == 0.2)
    assert label_class(record) == words


def test_the_artifact_knows_the_threshold(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Ending(lambda z: z.sigmoid(), 1)), "conv")
    image = images(1, SIZE)
    preprocess = Preprocess(SIZE[1:])
    path = export(explainable, tmp_path / "net.ts", image, preprocess=preprocess, threshold=0.9)
    assert read_metadata(path).threshold == 0.9
    explainer = artifact_explainer(path)
    answer = explainer.run(image.numpy(), None)
    assert explainer.describe(answer)["present"] == bool(answer.logits[0, 0] >= 0.9)
    record = {key: value for key, value in read_metadata(path).to_dict().items() if key != "threshold"}
    assert parse_metadata(json.dumps(record), path).threshold == 0.5, "as in artifacts of earlier versions"


def test_a_threshold_that_nothing_is_compared_with_is_refused(tmp_path: Path) -> None:
    network = seeded(Ending(lambda z: z, 1))
    refused = "threshold is 0.2, and the output is read as scores: .* output_kind='binary_logits'"
    with pytest.raises(ValueError, match=refused):
        export(ExplainableModel(network, "conv"), tmp_path / "net.ts", images(1, SIZE), threshold=0.2)
    assert not list(tmp_path.iterdir())
    named = NamedModel(network, Preprocess(SIZE[1:]), threshold=0.2)
    with pytest.raises(ValueError, match=refused):
        model_explainer(named)
    assert model_explainer(replace(named, output_kind="binary_logits")).threshold == 0.2


@pytest.mark.parametrize("threshold", [0, 1, -0.1, float("nan"), True, "0.5"])
def test_a_threshold_is_a_probability(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold is .*; expected a probability between 0 and 1"):
        NamedModel(nn.Identity(), threshold=threshold)
