"""A case: a network, and what is explained of it. Its seed makes it again."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model import METHODS, ExplainableModel, find_layers
from explainable_model.targets import Binary, ClassScore, Custom, Difference, Segmentation, Similarity
from tests.fuzz.networks import Network, draw_network, sample_inputs

Layout = tuple[str, tuple[int, ...], int]
COMMON = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam")
OPTIONS: dict[str, dict[str, Any]] = {
    "smoothgradcam++": {"samples": 3, "noise": 0.2},
    "smoothgrad": {"samples": 3, "noise": 0.2},
    "smoothgrad_sq": {"samples": 3, "noise": 0.2},
    "vargrad": {"samples": 3, "noise": 0.2},
    "integrated_gradients": {"steps": 4},
    "expected_gradients": {"samples": 4},
    "occlusion": {"window": 8, "stride": 6},
    "rise": {"samples": 4},
    "iscam": {"samples": 3},
    "sscam": {"samples": 2, "noise": 1.0},
    "finercam": {"gamma": 0.6, "references": 2},
    "vitreciprocam": {"gaussian": False},
}
# The formulas of these need no gradient at the layer.
WITHOUT_GRADIENT = (
    "eigencam",
    "fem",
    "kpcacam",
    "scorecam",
    "iscam",
    "sscam",
    "ablationcam",
    "reciprocam",
    "vitreciprocam",
)


@dataclass
class Case:
    """One network and one explanation.

    Attributes:
        seed: of everything.
        network: see ``Network``.
        layer: name of the target layer; ``None`` for a method that explains at the image.
        is_default: whether the package is to choose the layer itself.
        layouts: of each layer, the kind, the grid and the number of prefix tokens of its output.
        method: key of ``METHODS``.
        options: of the method.
        target: of the package.
        batch: how many images the example has.
        other: how many images the comparison of artifacts has.
        top_k: how many classes at once, or ``None``.
        post: ``normalize``, ``upsample`` and ``signed``.
    """

    seed: int
    network: Network
    layer: str | None
    is_default: bool
    layouts: dict[str, Layout]
    method: str
    options: dict[str, Any]
    target: Any
    batch: int
    other: int
    top_k: int | None
    post: dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> Layout:
        """Of the target layer."""
        return self.layouts[self.layer or ""]

    @property
    def differentiates(self) -> bool:
        """Whether the formula takes the gradient at the layer."""
        return self.method not in WITHOUT_GRADIENT

    def inputs(self, batch: int, seed: int) -> list[Tensor]:
        """The image, what else the network takes, and what the target takes."""
        inputs = sample_inputs(self.network, batch, seed)
        generator = torch.Generator().manual_seed(seed + 1)
        if isinstance(self.target, Similarity):
            inputs.append(torch.randn(batch, self.network.classes, generator=generator).double())
        elif self.target.inputs:
            inputs.append((torch.rand(batch, *self.network.image_shape[1:], generator=generator) > 0.5).double())
        return inputs

    def describe(self) -> str:
        """One line that names the case."""
        network = self.network
        return (
            f"seed {self.seed}: {self.method} at {self.layer!r}{' (default)' if self.is_default else ''}, "
            f"{type(self.target).__name__}, {network.kind}, image {network.image_shape}, layout {self.layout}, "
            f"ending {network.ending}, extra {network.extra}, batch {self.batch}/{self.other}, top_k {self.top_k}, "
            f"{self.post}"
        )


def own_score(output: Any, class_idx: Tensor) -> Tensor:
    """A target of one's own for a network that returns a tensor."""
    table = output.flatten(1)
    chosen = table.gather(1, class_idx.clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.tanh(chosen) + 0.1 * table.square().mean(1)


def draw_case(seed: int) -> Case:
    """The case of a seed."""
    rng = Random(seed)
    network = draw_network(rng, seed)
    inputs = sample_inputs(network, 2, seed)
    method = rng.choice(COMMON) if rng.random() < 0.4 else rng.choice(list(METHODS))
    layer, layouts = _draw_layer(rng, network, inputs, method)
    target = _draw_target(rng, network)
    can_have_two = network.classes > 1 and not isinstance(target, (Similarity, Custom))
    return Case(
        seed=seed,
        network=network,
        layer=layer,
        is_default=layer is not None and rng.random() < 0.15,
        layouts=layouts,
        method=method,
        options=OPTIONS.get(method, {}),
        target=target,
        batch=rng.choice((1, 2, 2, 3)),
        other=rng.choice((1, 2, 3, 4)),
        top_k=2 if can_have_two and rng.random() < 0.15 else None,
        post=_draw_post(rng),
    )


def _draw_layer(
    rng: Random, network: Network, inputs: list[Tensor], method: str
) -> tuple[str | None, dict[str, Layout]]:
    if not METHODS[method].needs_layer:
        return None, {"": ("image", (), 0)}
    found = find_layers(Bound(network.module, inputs[1:]).eval(), inputs[0])
    layouts = {row.name.removeprefix("net."): read(row) for row in found if row.name != "net"}
    names = [name for name, layout in layouts.items() if layout[0] == "tokens" or method != "vitreciprocam"]
    return rng.choice(names or list(layouts)), layouts


def read(row: Any) -> Layout:
    """How ``find_layers`` reads a layer's output."""
    return row.layout.kind, tuple(row.layout.grid), row.layout.prefix


class Bound(nn.Module):
    """A network with all but its image given, for ``find_layers``."""

    def __init__(self, net: nn.Module, others: list[Tensor]) -> None:
        super().__init__()
        self.net, self.others = net, others

    def forward(self, image: Tensor) -> Any:
        return self.net(image, *self.others)


def _draw_target(rng: Random, network: Network) -> Any:
    if network.kind == "embedding":
        return Similarity()
    if network.kind == "segmentation":
        threshold = {None: 0.0, "sigmoid": 0.5}.get(network.ending, -0.7)
        return rng.choice((Segmentation(), Segmentation("own", threshold), Segmentation("input"), ClassScore()))
    if network.kind == "single":
        return rng.choice((Binary({None: 0.0, "sigmoid": 0.5}.get(network.ending, -0.7)), ClassScore()))
    if rng.random() < 0.1 and network.container == "tensor":
        return Custom(own_score)
    return Difference(rng.randrange(network.classes)) if rng.random() < 0.1 else ClassScore()


def _draw_post(rng: Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"normalize": "minmax", "upsample": "bilinear", "signed": False}
    return {
        "normalize": rng.choice(("minmax", "max", "none")),
        "upsample": rng.choice(("bilinear", "nearest", "none")),
        "signed": rng.random() < 0.5,
    }


class Wrong(Exception):
    """A difference that rounding does not explain."""


def explainable_of(case: Case, module: Any, post: dict[str, Any]) -> ExplainableModel:
    """The package's explanation of a case."""
    return ExplainableModel(
        module,
        None if case.is_default else case.layer,
        case.method,
        target=case.target,
        output=case.network.output,
        top_k=case.top_k,
        options=case.options,
        **post,
    )


def draw_classes(case: Case, batch: int) -> Tensor | None:
    """Classes to explain, or ``None`` for the predicted ones."""
    rng = Random(case.seed + 7)
    if case.top_k is not None or rng.random() < 0.4:
        return None
    count = count_classes(case)
    return torch.tensor([rng.randrange(count) for _ in range(batch)])


def count_classes(case: Case) -> int:
    """How many classes the target of a case can explain."""
    return {"Binary": 2, "Similarity": 1, "Custom": 1}.get(type(case.target).__name__, case.network.classes)
