"""The kind of output, found from the graph and the values, and recorded in the metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, Preprocess, export, lower, read_metadata
from explainable_model.errors import InputError
from explainable_model.explanation import OUTPUT_KINDS
from explainable_model.lowering.eager_kind import find_output_kind
from tests.support.nets import images, seeded

SHAPE = (3, 8, 8)


class Ending(nn.Module):
    """A small network whose output ends as it is told."""

    def __init__(self, end: Callable[[Tensor], Any], classes: int = 3, *, dense: bool = False) -> None:
        super().__init__()
        self.conv, self.dense, self.end = nn.Conv2d(3, 4, 3, padding=1), dense, end
        self.head = nn.Conv2d(4, classes, 1) if dense else nn.Linear(4, classes)

    def forward(self, image: Tensor) -> Any:
        features = self.conv(image).relu()
        return self.end(self.head(features if self.dense else features.mean((2, 3))))


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, torch.eye(3), compute_mode="donot_use_mm_for_euclid_dist")


def identity(x: Tensor) -> Tensor:
    return x


ENDINGS: dict[str, tuple[Callable[[Tensor], Any], int, str]] = {
    "linear": (identity, 3, "logits"),
    "log_softmax": (lambda x: x.log_softmax(1), 3, "logits"),
    "log of softmax": (lambda x: x.softmax(1).log(), 3, "logits"),
    "relu": (torch.relu, 3, "logits"),
    "gated": (lambda x: x * x.sigmoid(), 3, "logits"),
    "softmax": (lambda x: x.softmax(1), 3, "softmax"),
    "softmax, selected and named": (lambda x: {"logits": x.softmax(-1)[:, :].contiguous()}, 3, "softmax"),
    "ensemble of softmax": (lambda x: (x.softmax(1) + (2 * x).softmax(1)) / 2, 3, "softmax"),
    "softmax by hand": (lambda x: x.exp() / x.exp().sum(1, keepdim=True), 3, "softmax"),
    "two columns of one sigmoid": (lambda x: torch.cat([1 - x.sigmoid(), x.sigmoid()], 1), 1, "softmax"),
    "percent": (lambda x: 100 * x.softmax(1), 3, "scores"),
    "sigmoid": (torch.sigmoid, 14, "sigmoid"),
    "clamped sigmoid": (lambda x: x.sigmoid().clamp(0.01, 0.99), 14, "sigmoid"),
    "sigmoid by hand": (lambda x: 1 / (1 + torch.exp(-x)), 14, "sigmoid"),
    "without the background": (lambda x: x.softmax(1)[:, 1:], 4, "sigmoid"),
    "one sigmoid": (torch.sigmoid, 1, "binary"),
    "one hardsigmoid": (nn.functional.hardsigmoid, 1, "binary"),
    "one column of a softmax": (lambda x: x.softmax(1)[:, 1:], 2, "binary"),
    "one sigmoid without a channel": (lambda x: x.sigmoid().squeeze(1), 1, "binary"),
    "one logit": (identity, 1, "binary_logits"),
    "a count": (torch.relu, 1, "scores"),
    "an age": (lambda x: nn.functional.softplus(x) + 18, 1, "scores"),
    "a percentage by hand": (lambda x: 100 / (1 + torch.exp(-x)), 1, "scores"),
    "evidence": (lambda x: nn.functional.softplus(x) + 1, 3, "scores"),
    "distances": (lambda x: distances(x), 3, "scores"),
    "nearness": (lambda x: -distances(x), 3, "logits"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_kind_is_found(name: str) -> None:
    end, classes, kind = ENDINGS[name]
    explainable = ExplainableModel(seeded(Ending(end, classes)), "conv")
    assert lower(explainable, 3 * images(2, SHAPE)).output_kind == kind


@pytest.mark.parametrize("name", ENDINGS)
def test_the_kind_is_found_without_a_graph(name: str) -> None:
    end, classes, kind = ENDINGS[name]
    assert find_output_kind(seeded(Ending(end, classes)), 3 * images(2, SHAPE)) == kind


def test_what_is_made_of_parameters_alone_is_no_ending() -> None:
    class Scaled(Ending):
        def __init__(self) -> None:
            super().__init__(lambda x: x * self.logit_scale.exp() + self.logit_scale.abs().pow(2), 1)
            self.logit_scale = nn.Parameter(torch.tensor(0.5))

    network = seeded(Scaled())
    assert lower(ExplainableModel(network, "conv"), images(2, SHAPE)).output_kind == "binary_logits"
    assert find_output_kind(network, images(2, SHAPE)) == "binary_logits"


@pytest.mark.parametrize(
    ("end", "classes", "kind"),
    [
        (torch.relu, 1, "scores"),
        (identity, 1, "binary_logits"),
        (torch.sigmoid, 1, "binary"),
        (lambda x: x.softmax(1), 3, "softmax"),
        (lambda x: x.flatten(2).softmax(2).unflatten(2, x.shape[2:]), 3, "scores"),
    ],
)
def test_the_kind_of_a_segmentation(end: Callable[[Tensor], Tensor], classes: int, kind: str) -> None:
    explainable = ExplainableModel(seeded(Ending(end, classes, dense=True)), "conv")
    assert lower(explainable, images(2, SHAPE)).output_kind == kind


def test_the_metadata_records_it(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Ending(torch.sigmoid, 14)), "conv")
    assert read_metadata(export(explainable, tmp_path / "net.ts", images(1, SHAPE))).output_kind == "sigmoid"
    photos = {"preprocess": Preprocess((8, 8)), "pixels": "NCHW"}
    path = export(explainable, tmp_path / "photos.ts", images(1, SHAPE), **photos)  # type: ignore[arg-type]
    assert read_metadata(path).output_kind == "sigmoid"


def test_the_option_overrides_what_was_found(tmp_path: Path) -> None:
    lowered = lower(ExplainableModel(seeded(Ending(identity, 14)), "conv"), images(1, SHAPE))
    path = tmp_path / "net.ts"
    assert lowered.output_kind == "logits"
    assert read_metadata(export(lowered, path, output_kind="sigmoid_logits")).output_kind == "sigmoid_logits"
    path.unlink()
    for kind, problem in {
        "probabilities": f"known kinds: {', '.join(OUTPUT_KINDS)}",
        "binary": "the output has 14 channel",
        "sigmoid": "which are no probabilities",
    }.items():
        with pytest.raises(InputError, match=rf"output_kind is '{kind}'; .*{problem}.*Leave it out"):
            export(lowered, path, output_kind=kind)  # type: ignore[arg-type]
    lowered = lower(ExplainableModel(seeded(Ending(torch.sigmoid, 14)), "conv"), images(1, SHAPE))
    with pytest.raises(InputError, match="does not sum to one"):
        export(lowered, path, output_kind="softmax")
    assert not path.exists()


class Boxes(Ending):
    """Returns boxes and their scores in a dictionary, and no class scores."""

    def forward(self, image: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        scores = super().forward(image)
        return {"boxes": scores.unsqueeze(2).expand(-1, -1, 4), "box_scores": scores}


def test_a_score_of_one_s_own_that_stands_for_the_prediction_is_no_probability() -> None:
    def best(output: dict[str, Tensor], class_idx: Tensor) -> Tensor:
        return output["box_scores"].amax(1)

    explainable = ExplainableModel(seeded(Boxes(identity, 6)), "conv", target=best)
    lowered = lower(explainable, images(2, SHAPE))
    assert lowered.output_kind == "scores"
    assert lowered(images(2, SHAPE)).output_kind == "scores"
    # Of an output with class scores, the prediction is still the network's.
    own = ExplainableModel(seeded(Ending(identity, 6)), "conv", target=lambda output, class_idx: output.amax(1))
    assert lower(own, images(2, SHAPE)).output_kind == "logits"
