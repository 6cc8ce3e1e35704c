"""Which tensor of a network's output is the prediction, and which outputs hold no class scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, lower
from explainable_model.attribution.prediction import check_class_scores, find_prediction
from explainable_model.errors import InputError, ModelError
from explainable_model.targets import Custom, Segmentation
from tests.support.nets import SmallNet, images, seeded

LOGITS, OTHER = torch.ones(1, 3), torch.zeros(1, 3)


@dataclass
class HeadOutput:
    loss: Tensor | None
    logits: Tensor


class NamedHead(NamedTuple):
    features: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        {"aux": OTHER, "out": LOGITS},
        {"scores": LOGITS},
        HeadOutput(None, LOGITS),
        HeadOutput(OTHER, LOGITS),
        NamedHead(OTHER, LOGITS),
        (LOGITS,),
        (torch.tensor(0.5), LOGITS),
        {"loss": torch.tensor(0.5), "scores": LOGITS},
        (LOGITS, LOGITS, None, torch.ones(1, 3, dtype=torch.int64)),
        {"heads": [None, {"scores": LOGITS}]},
    ],
)
def test_one_tensor_is_the_prediction(output: Any) -> None:
    assert find_prediction(output).tensor is LOGITS


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("cat", "returned str without a floating point tensor"),
        (torch.tensor([1, 2]), "returned Tensor without a floating point tensor"),
        ([torch.tensor(0.5)], "returned list without a floating point tensor"),
        ((OTHER, LOGITS), r"2 tensors, any of which may be the prediction: 0 \(1, 3\), 1 \(1, 3\).*output=0"),
        (
            {"features": OTHER, "embedding": OTHER + 1, "cls": LOGITS},
            r"'features' \(1, 3\), 'embedding' \(1, 3\), 'cls' \(1, 3\)",
        ),
        ({"heads": (OTHER, LOGITS)}, r"lambda output: output\['heads'\]\[0\]"),
        (HeadOutput(OTHER, None), None),  # type: ignore[arg-type]
        ([{"boxes": OTHER, "scores": LOGITS}], r"1 dictionaries \(boxes, scores\), one per image.*target=lambda"),
        ([{"scores": LOGITS}] * 2, "2 dictionaries"),
        ([LOGITS], r"a list of 1 tensor.* one per image.*output=0"),
        ([torch.ones(0, 6)], r"a list of 1 tensor.* one per image"),
        ({"logits": LOGITS, "pred_boxes": OTHER}, "'pred_boxes', as detectors do.*target=lambda"),
    ],
)
def test_no_prediction_is_guessed(output: Any, message: str | None) -> None:
    if message is None:  # the loss of a dataclass, alone, is still no class score
        with pytest.raises(ModelError, match="'loss' of shape"):
            check_class_scores(find_prediction(output), (1, 3, 8, 8))
        return
    with pytest.raises(ModelError, match=message):
        find_prediction(output)


class Returns(nn.Module):
    """A network that returns something made of its map ``(N, 10, 8, 8)``, its logits ``(N, 5)`` and the image."""

    def __init__(self, pack: Callable[[Tensor, Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.net, self.pack = SmallNet(5), pack

    def forward(self, image: Tensor) -> Any:
        activations = self.net.block(self.net.stem(image))
        return self.pack(activations, self.net.fc(activations.mean((2, 3))), image)


def returns(pack: Callable[[Tensor, Tensor, Tensor], Any]) -> nn.Module:
    return seeded(Returns(pack)).double()


def picture(batch: int = 2) -> Tensor:
    return images(batch).double()


def resized(maps: Tensor, size: Any) -> Tensor:
    return nn.functional.interpolate(maps, size=size)


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Any], str]] = {
    "yolo (N, 4 + classes, anchors)": (lambda a, y, x: a.flatten(2), r"count boxes, queries or tokens"),
    "queries (N, queries, classes)": (lambda a, y, x: {"logits": a.flatten(2)}, r"count boxes, queries or tokens"),
    "last_hidden_state": (
        lambda a, y, x: {"last_hidden_state": a.flatten(2).mT},
        r"'last_hidden_state' of shape \(2, 64, 10\), which is not named after class scores",
    ),
    "pooled": (lambda a, y, x: {"pooler_output": a.mean((2, 3))}, "'pooler_output'"),
    "hidden and pooled": (
        lambda a, y, x: {"last_hidden_state": a, "pooler_output": a.mean((2, 3))},
        "any of which may be the prediction",
    ),
    "depth": (lambda a, y, x: resized(a, x.shape[2:])[:, 0], r"one value per pixel.*target=lambda"),
    "named depth": (lambda a, y, x: {"predicted_depth": resized(a, x.shape[2:])[:, 0]}, "'predicted_depth'"),
    "a backbone's map": (lambda a, y, x: a, r"map of features.*target=Segmentation\(\)"),
    "one grid of boxes, channels last": (lambda a, y, x: a.movedim(1, 3), "at a lower resolution"),
    "maps of three scales": (lambda a, y, x: [a, a * 2, a * 3], "3 tensors, any of which may be the prediction"),
    "one detection": (
        lambda a, y, x: [{"boxes": y[n : n + 1, :4], "scores": y[n : n + 1, 0].sigmoid()} for n in range(len(y))],
        r"2 dictionaries \(boxes, scores\)",
    ),
    "no detection": (lambda a, y, x: [{"boxes": y[:0, :4], "scores": y[:0, 0]}] * len(y), "2 dictionaries"),
    "features first": (lambda a, y, x: (a.mean((2, 3)), y), r"0 \(2, 10\), 1 \(2, 5\)"),
    "frames by width": (lambda a, y, x: y.unsqueeze(2).expand(-1, -1, 7), "boxes, queries or tokens"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("layer", ["net.block", None])
def test_an_output_without_class_scores_is_refused(name: str, layer: str | None) -> None:
    pack, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        ExplainableModel(returns(pack), layer)(picture())


ACCEPTED: dict[str, Callable[[Tensor, Tensor, Tensor], Any]] = {
    "namedtuple": lambda a, y, x: NamedHead(a.mean((2, 3)), y),
    "loss first": lambda a, y, x: (y.square().mean(), y),
    "one value per class": lambda a, y, x: y[:, :, None, None],
    "a batch of scalars": lambda a, y, x: y[:, 0],
    "logits beside features": lambda a, y, x: {"features": a, "logits": y},
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_class_scores_are_explained(name: str) -> None:
    network, image = returns(ACCEPTED[name]), picture()
    class_idx = torch.zeros(2, dtype=torch.int64)
    explainable = ExplainableModel(network, "net.block", normalize=False)
    expected = ExplainableModel(network.net, "block", normalize=False)(image, class_idx)
    runs = [explainable, lower(explainable, picture())] if name == "namedtuple" else [explainable]
    for run in runs:
        got = run(image, class_idx)
        assert (got.cam - expected.cam).abs().max() <= 1e-9 * expected.cam.max()


@pytest.mark.parametrize("key", ["logits", "out"])
def test_named_class_maps_of_lower_resolution_are_summed(key: str) -> None:
    image, class_idx = picture(), torch.tensor([3, 1])
    named = ExplainableModel(returns(lambda a, y, x: {key: a.tanh()}), "net.block", normalize=False)(image, class_idx)
    declared = returns(lambda a, y, x: a.tanh())
    expected = ExplainableModel(declared, "net.block", normalize=False, target=Segmentation())(image, class_idx)
    assert expected.cam.max() > 0
    assert torch.equal(named.cam, expected.cam)


def detections(activations: Tensor, logits: Tensor, image: Tensor) -> list[dict[str, Tensor]]:
    return [{"boxes": row[:4].unsqueeze(0), "scores": row[4:]} for row in logits]


def first_box(output: list[dict[str, Tensor]], class_idx: Tensor) -> Tensor:
    return torch.stack([one["scores"][0] for one in output])


def query_score(output: dict[str, Tensor], class_idx: Tensor) -> Tensor:
    return output["logits"].gather(2, class_idx.reshape(-1, 1, 1).expand(-1, output["logits"].shape[1], 1)).amax((1, 2))


@pytest.mark.parametrize("layer", ["net.block", None])
def test_the_users_score_of_a_detector(layer: str | None) -> None:
    network, image = returns(detections), picture()
    got = ExplainableModel(network, layer, normalize=False, target=first_box)(image)
    expected = ExplainableModel(network.net, "block", normalize=False)(image, torch.tensor([4, 4]))
    assert got.class_idx.tolist() == [0, 0]
    assert torch.allclose(got.logits[:, 0], expected.logits[:, 4])
    assert expected.cam.max() > 0
    assert (got.cam - expected.cam).abs().max() <= 1e-9 * expected.cam.max()


def test_the_users_score_of_a_query_takes_the_class() -> None:
    network = returns(lambda a, y, x: {"logits": a.tanh().flatten(2), "pred_boxes": y[:, None, :4]})
    target = Custom(query_score, classes=64)
    explainable = ExplainableModel(network, "net.block", normalize=False, target=target)
    lowered = lower(explainable, picture())
    one, other = (explainable(picture(), torch.tensor([c, c])) for c in (7, 30))
    assert (one.cam - other.cam).abs().max() > 0
    first = explainable(picture())  # the output has no classes to choose from: -1 stands for 0
    assert torch.equal(first.cam, explainable(picture(), torch.tensor([0, 0])).cam)
    assert (lowered(picture()).cam - first.cam).abs().max() <= 1e-9 * first.cam.max()
    assert lowered.classes == 64
    assert (lowered(picture(), torch.tensor([30, 30])).cam - other.cam).abs().max() <= 1e-9 * other.cam.max()
    for call in (explainable, lowered):
        with pytest.raises(InputError, match="class_idx 64 is out of range"):
            call(picture(), torch.tensor([64, 0]))
