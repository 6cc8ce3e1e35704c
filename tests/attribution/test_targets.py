"""From a network's output to one score per image."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, load
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.attribution.targets import Binary, Custom, Difference, Segmentation, Similarity
from explainable_model.errors import InputError, ModelError
from explainable_model.model import lower
from tests.support.nets import QUICK_FORMATS, SmallNet, images, seeded


@dataclass
class HeadOutput:
    loss: Tensor
    logits: Tensor


# On whole networks: against plain autograd, and in every format


class Sigmoid(nn.Module):
    """One probability."""

    def __init__(self) -> None:
        super().__init__()
        self.net = SmallNet(1)

    def forward(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.net(image))


class Segmenter(nn.Module):
    """A class map at image size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 4, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        scores = self.head(self.conv(image))
        return {"out": functional.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=False)}


class WithMeta(nn.Module):
    """A second input, and a dataclass for an output."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.gate = SmallNet(5), nn.Linear(3, 5)

    def forward(self, image: Tensor, meta: Tensor) -> HeadOutput:
        logits = self.net(image) * torch.sigmoid(self.gate(meta))
        return HeadOutput(logits.mean(), logits)


def squared(output: Tensor, class_idx: Tensor) -> Tensor:
    return output.gather(1, class_idx.unsqueeze(1)).squeeze(1) ** 2


def weighed(output: HeadOutput, class_idx: Tensor, weight: Tensor) -> Tensor:
    return output.logits.gather(1, class_idx.unsqueeze(1)).squeeze(1) * weight[:, 0] + output.logits[:, 0]


Score = Callable[..., Tensor]  # (output of one image, class_idx, *inputs of that image) -> ()


def logit_of(probability: Tensor) -> Tensor:
    return torch.log(probability) - torch.log(1 - probability)


def own_pixels(output: dict[str, Tensor], c: int) -> Tensor:
    scores = output["out"][0]
    return scores[c][scores.argmax(0) == c].sum()


def generated(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FIXED_MASK = (generated(16, 16, seed=5) > 0.5).double()


@dataclass
class Scored:
    """A network, its layer, the options, the score by hand and the shapes of the extra inputs."""

    network: type[nn.Module]
    layer: str
    options: dict[str, Any]
    score: Score
    inputs: tuple[tuple[int, ...], ...] = ()
    mask: bool = False

    @property
    def classes(self) -> Tensor:
        """Two for each of two images; of the segmentation network, classes that have pixels of their own."""
        return torch.tensor([[1, 2], [3, 1]] if self.network is Segmenter else [[0, 1], [1, 0]])

    def seeded(self) -> nn.Module:
        return seeded(self.network(), seed=4 if self.network is Segmenter else 0)

    def explainable(self, dtype: torch.dtype, **more: Any) -> ExplainableModel:
        return ExplainableModel(self.seeded().to(dtype), self.layer, **self.options, **more)

    def extra(self, batch: int, dtype: torch.dtype, seed: int) -> list[Tensor]:
        extras = [generated(batch, *shape, seed=seed + n) for n, shape in enumerate(self.inputs)]
        return [(extra > 0).to(dtype) if self.mask else extra.to(dtype) for extra in extras]


CASES = {
    # The side under a sigmoid is explained by the logit: class 1 by the logit itself, class 0 by its negative.
    "binary": Scored(Sigmoid, "net.block", {"target": Binary(0.5)}, lambda out, c: logit_of(out[0, 0]) * (2 * c - 1)),
    "difference": Scored(SmallNet, "block", {"target": Difference(2)}, lambda out, c: out[0, c] - out[0, 2]),
    "segmentation": Scored(
        Segmenter, "conv", {"target": Segmentation()}, lambda out, c: out["out"][0, c].sum()
    ),
    "own pixels": Scored(Segmenter, "conv", {"target": Segmentation("own")}, own_pixels),
    "given mask": Scored(
        Segmenter, "conv", {"target": Segmentation("input")},
        lambda out, c, mask: (out["out"][0, c] * mask[0]).sum(), ((16, 16),), mask=True,
    ),
    "fixed mask": Scored(
        Segmenter, "conv", {"target": Segmentation(FIXED_MASK)}, lambda out, c: (out["out"][0, c] * FIXED_MASK).sum()
    ),
    "similarity": Scored(
        SmallNet, "block", {"target": Similarity()},
        lambda out, c, reference: functional.cosine_similarity(out, reference)[0], ((5,),),
    ),
    "custom": Scored(SmallNet, "block", {"target": squared}, lambda out, c: out[0, c] ** 2),
    "two inputs": Scored(WithMeta, "net.block", {"output": "logits"}, lambda out, c, meta: out.logits[0, c], ((3,),)),
    "custom with an input": Scored(
        WithMeta, "net.block", {"target": Custom(weighed, inputs=1)},
        lambda out, c, meta, weight: out.logits[0, c] * weight[0, 0] + out.logits[0, 0], ((3,), (1,)),
    ),
}  # fmt: skip


def gradcam_by_hand(case: Scored, image: Tensor, class_idx: int, inputs: list[Tensor]) -> Tensor:
    """Signed map of one image."""
    network, outputs = case.seeded().double(), []
    handle = network.get_submodule(case.layer).register_forward_hook(lambda module, given, out: outputs.append(out))
    count = len(inspect.signature(network.forward).parameters) - 1
    output = network(image, *inputs[:count])
    handle.remove()
    score = case.score(output, class_idx, *inputs)
    (gradient,) = torch.autograd.grad(score, outputs[0])
    return (gradient[0].mean((1, 2))[:, None, None] * outputs[0][0]).sum(0).detach()


def pictures(batch: int, seed: int) -> Tensor:
    return images(batch, (3, 16, 16), seed=seed).double()


@pytest.mark.parametrize(
    ("name", "top_k"),
    [(name, top_k) for name in CASES for top_k in (None, 2) if (name, top_k) != ("similarity", 2)],  # it is one score
)
def test_target_against_autograd(name: str, top_k: int | None) -> None:
    case = CASES[name]
    image, inputs = pictures(2, seed=3), case.extra(2, torch.float64, seed=3)
    explainable = case.explainable(torch.float64, normalize=False, upsample=False, signed=True, top_k=top_k)
    classes = torch.zeros(2, 1, dtype=torch.int64) if name == "similarity" else case.classes
    class_idx_given = classes[:, 0] if top_k is None else classes
    logits, class_idx, cam = explainable(image, class_idx_given, *inputs)
    assert torch.equal(class_idx, class_idx_given)
    assert logits.shape[0] == 2
    maps = cam.unsqueeze(1) if top_k is None else cam
    for n in range(2):
        for j in range(maps.shape[1]):
            one = [extra[n : n + 1] for extra in inputs]
            expected = gradcam_by_hand(case, image[n : n + 1], int(classes[n, j]), one)
            assert expected.abs().max() > 0
            assert (maps[n, j] - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_target_in_every_format(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    top_k = 2 if name in ("custom", "fixed mask") else None
    explainable = case.explainable(torch.float32, top_k=top_k)
    example = case.extra(2, torch.float32, seed=3)
    lowered = lower(explainable, pictures(2, seed=3).float(), *example)
    image, inputs = pictures(3, seed=4).float(), case.extra(3, torch.float32, seed=8)
    expected = explainable(image, None, *inputs)
    for suffix in (fmt.suffixes[0] for fmt in QUICK_FORMATS):
        session = load(export(lowered, tmp_path / f"artifact{suffix}"))
        got = session(image.numpy(), None, *[extra.numpy() for extra in inputs])
        assert np.array_equal(got.class_idx, expected.class_idx.numpy()), suffix
        assert np.abs(got.cam - expected.cam.numpy()).max() < TOLERANCES["float32"].cam, suffix
        if inputs:  # the extra input is read, not stored
            other = session(image.numpy(), got.class_idx, *[extra.roll(1, 0).numpy() for extra in inputs])
            assert np.abs(got.cam - other.cam).max() > 1e-3 or np.abs(got.logits - other.logits).max() > 1e-3


def test_binary_sides() -> None:
    image = pictures(8, seed=6)
    explainable = CASES["binary"].explainable(torch.float64)
    logits, class_idx, _ = explainable(image)
    assert torch.equal(class_idx, (logits[:, 0] > 0.5).long())
    shifted = ExplainableModel(seeded(SmallNet(1)).double(), "block", target=Binary(float(logit_of(logits).median())))
    assert shifted(image).class_idx.unique().tolist() == [0, 1], "both sides are predicted"
    with pytest.raises(ModelError, match=r"Binary\(\) needs a network with one logit; this one has 5 classes"):
        ExplainableModel(seeded(SmallNet()).double(), "block", target=Binary())(image)


def test_wrong_targets() -> None:
    image, network = pictures(2, seed=3), seeded(SmallNet()).double()

    def refused(target: Any, *inputs: Tensor) -> None:
        ExplainableModel(network, "block", target=target)(image, None, *inputs)

    with pytest.raises(InputError, match=r"Difference\(other=9\): expected a class, 0 to 4 for this network"):
        refused(Difference(9))
    with pytest.raises(ModelError, match=r"Segmentation\(\) needs logits \(N, classes, \*spatial\)"):
        refused(Segmentation())
    with pytest.raises(InputError, match=r"0 extra input\(s\) given; the target takes 1"):
        refused(Similarity())
    with pytest.raises(InputError, match=r"Extra input 0 is of shape \(3, 5\); expected a tensor with the batch of 2"):
        refused(Similarity(), torch.zeros(3, 5).double())
    with pytest.raises(ModelError, match=r"The target's score is \(2, 5\); expected one value per image, shape \(2,\)"):
        refused(lambda output, class_idx: output)
    with pytest.raises(ModelError, match="target is int; expected one of explainable_model.targets or a function"):
        refused(3)
