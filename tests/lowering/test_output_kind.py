"""The kind of output, found from the graph and the values, and recorded in the metadata."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from explainable_model import ExplainableModel, Preprocess, export, lower, read_metadata, targets
from explainable_model.errors import InputError
from explainable_model.explanation import OUTPUT_KINDS
from explainable_model.lowering.eager_kind import find_output_kind
from explainable_model.lowering.graph import output_nodes
from explainable_model.lowering.output_ending import find_ending
from explainable_model.lowering.output_kind import classify_output
from tests.support.endings import SHAPE, Ending, identity
from tests.support.nets import images, seeded


def distances(x: Tensor) -> Tensor:
    return torch.cdist(x, torch.eye(3), compute_mode="donot_use_mm_for_euclid_dist")


def lengths(x: Tensor) -> Tensor:
    return (x[:, None] - torch.eye(3)).norm(dim=-1)


def unit(x: Tensor) -> Tensor:
    return nn.functional.normalize(x, dim=-1)


DIRECTIONS = torch.tensor([[1.0, 2, -1], [0, -1, 1], [2, 0, 1], [-1, 1, 1]])  # of four classes


def cosines(x: Tensor) -> Tensor:
    return unit(x) @ unit(DIRECTIONS).t()


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
    "one number": (identity, 1, "scores"),
    "an angle": (lambda x: 0.1 * x.tanh(), 1, "scores"),
    "an angle that is positive by chance": (lambda x: x.abs().tanh(), 1, "scores"),
    "one sigmoid by tanh": (lambda x: (1 + (x / 2).tanh()) / 2, 1, "binary"),
    "several angles": (torch.tanh, 3, "scores"),
    "logits with a soft cap": (lambda x: 30 * (x / 30).tanh(), 3, "logits"),
    "a count": (torch.relu, 1, "scores"),
    "an age": (lambda x: nn.functional.softplus(x) + 18, 1, "scores"),
    "a percentage by hand": (lambda x: 100 / (1 + torch.exp(-x)), 1, "scores"),
    "evidence": (lambda x: nn.functional.softplus(x) + 1, 3, "scores"),
    "distances": (lambda x: distances(x), 3, "scores"),
    "nearness": (lambda x: -distances(x), 3, "logits"),
    "distances of centered features": (lambda x: distances((x - 0.5) * 2), 3, "scores"),
    "distances by hand": (lengths, 3, "scores"),
    "squared distances": (lambda x: lengths(x).pow(2), 3, "scores"),
    "sums of squares": (lambda x: (x[:, None] - torch.eye(3)).pow(2).sum(-1), 3, "scores"),
    "nearness by hand": (lambda x: -(x[:, None] - torch.eye(3)).pow(2).sum(-1), 3, "logits"),
    "lengths of capsules": (lambda x: x.unflatten(1, (3, 2)).norm(dim=-1), 6, "scores"),
    "ordered classes": (lambda x: x + torch.arange(4.0), 1, "scores"),
    "ordered classes, turned": (lambda x: torch.arange(4.0) - x.expand(-1, 4), 1, "scores"),
    "ordered classes with sigmoids": (lambda x: (x + torch.arange(4.0)).sigmoid(), 1, "sigmoid"),
    "dueling heads": (lambda x: x[:, :1] + (x[:, 1:] - x[:, 1:].mean(1, keepdim=True)), 4, "logits"),
    "cosines": (cosines, 3, "scores"),
    "cosines by a function": (lambda x: nn.functional.cosine_similarity(x[:, None], DIRECTIONS, -1), 3, "scores"),
    "cosines by einsum": (lambda x: torch.einsum("nd,cd->nc", unit(x), unit(DIRECTIONS)), 3, "scores"),
    "cosines, with a little in the divisor": (
        lambda x: (x / (x.norm(dim=1, keepdim=True) + 1e-8)) @ unit(DIRECTIONS).t(),
        3,
        "scores",
    ),
    "cosines, with a little under the root": (
        lambda x: (x / (x.pow(2).sum(1, keepdim=True) + 1e-8).sqrt()) @ unit(DIRECTIONS).t(),
        3,
        "scores",
    ),
    "cosines, by the inverse root": (
        lambda x: (x * (x.pow(2).sum(1, keepdim=True) + 1e-8).rsqrt()) @ unit(DIRECTIONS).t(),
        3,
        "scores",
    ),
    "cosines, with a least length": (
        lambda x: (x / torch.maximum(x.norm(dim=1, keepdim=True), torch.tensor(1e-8))) @ unit(DIRECTIONS).t(),
        3,
        "scores",
    ),
    "Mish by hand": (lambda x: x * nn.functional.softplus(x).tanh(), 3, "logits"),
    "cosines by products": (lambda x: (unit(x)[:, None] * unit(DIRECTIONS)).sum(-1), 3, "scores"),
    "cosines, divided last": (lambda x: x @ unit(DIRECTIONS).t() / x.norm(dim=1, keepdim=True), 3, "scores"),
    "cosines by hand": (lambda x: (x * x.pow(2).sum(1, keepdim=True).rsqrt()) @ unit(DIRECTIONS).t(), 3, "scores"),
    "cosine distances": (lambda x: 1 - cosines(x), 3, "scores"),
    "cosines in the unit interval": (lambda x: (1 + cosines(x)) / 2, 3, "scores"),
    "best of two directions": (lambda x: cosines(x).unflatten(1, (2, 2)).amax(2), 3, "scores"),
    "cosines with a scale": (lambda x: 16 * cosines(x), 3, "logits"),
    "cosines of a longer direction": (lambda x: unit(x) @ (10 * DIRECTIONS).t(), 3, "logits"),
    "logits of normalized features": (lambda x: nn.functional.linear(unit(x), DIRECTIONS, torch.zeros(4)), 3, "logits"),
    "norm of channels": (lambda x: (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True), 3, "logits"),
}


class Ends(nn.Module):
    """All of these endings behind one convolution: one graph for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(seeded(Ending(end, classes)) for end, classes, _ in ENDINGS.values())

    def forward(self, image: Tensor) -> list[Any]:
        return [network(image) for network in self.networks]


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    network, image = Ends().eval(), 3 * images(2, SHAPE)
    nodes = output_nodes(torch.export.export(network, (image,)).module().graph)
    with torch.no_grad():
        outputs = pytree.tree_leaves(network(image))
    return {
        name: classify_output(find_ending(node), logits.detach())
        for name, node, logits in zip(ENDINGS, nodes, outputs, strict=True)
    }


@pytest.mark.parametrize("name", ENDINGS)
def test_the_kind_is_found_in_a_graph(name: str, found: dict[str, str]) -> None:
    assert found[name] == ENDINGS[name][2]


@pytest.mark.parametrize("name", ["linear", "softmax", "one sigmoid", "one number", "cosines"])
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
    explainable = ExplainableModel(network, "conv", target=targets.Binary())
    assert lower(explainable, images(2, SHAPE)).output_kind == "binary_logits"
    assert explainable(images(2, SHAPE)).output_kind == "binary_logits"


@pytest.mark.parametrize(
    ("end", "classes", "kind"),
    [
        (torch.relu, 1, "scores"),
        (identity, 1, "scores"),
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
