"""A network of the table of packages, with what a person would expect of its explanation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

SIDE = 64  # height and width of most images


@dataclass(frozen=True)
class Case:
    """A network, how it is asked, and the right answer.

    Attributes:
        key: ``library:name``.
        build: makes the network; it imports the package.
        layer: the layer that a person would name; several where they stand for the same map.
        grid: the size of that layer's map, in cells.
        meaning: what the class stands for.
        refused: words of the error where the network cannot be explained as it is asked; a regular expression.
        artifact_refused: the same for the artifact of a network that is explained in PyTorch.
        shape: of one image, without the batch.
        arguments: of ``ExplainableModel``.
        inputs: makes what follows the image in a call, for a batch and a generator.
        read_scores: reads ``(N, classes)`` from what the network returns; ``None`` for the logits.
        scores_at: the layer that returns the logits, where the network ends in probabilities.
        kind: how the output is read as probabilities.
        mixes: every position of the layer's map sees the whole image, so that its place cannot be told.
        single: the network computes in float32 whatever it is given.
        warned: words of a warning that the choice of the layer must come with; a regular expression.
    """

    key: str
    build: Callable[[], nn.Module]
    layer: str | tuple[str, ...] = ()
    grid: tuple[int, ...] = ()
    meaning: str = "class"
    refused: str = ""
    artifact_refused: str = ""
    shape: tuple[int, ...] = (3, SIDE, SIDE)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: Callable[[int, torch.Generator], tuple[Tensor, ...]] | None = None
    read_scores: Callable[..., Tensor] | None = None
    scores_at: str | None = None
    kind: str = "logits"
    mixes: bool = False
    single: bool = False
    warned: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers that are right."""
        return (self.layer,) if isinstance(self.layer, str) else self.layer

    def make_images(self, batch: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Seeded noise of the network's shape."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64).to(dtype)

    def make_inputs(self, batch: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
        """What follows the image in a call."""
        if self.inputs is None:
            return ()
        extra = self.inputs(batch, torch.Generator().manual_seed(1000 + seed))
        return tuple(value.to(dtype) if value.is_floating_point() else value for value in extra)


def read_logits(output: Any) -> Tensor:
    """``(N, classes)`` from a tensor or from what is named ``logits`` or ``out``, summed over all pixels."""
    if not isinstance(output, Tensor):
        output = output["out"] if isinstance(output, dict) and "out" in output else output.logits
    return output.flatten(2).sum(2) if output.ndim > 2 else output.reshape(len(output), -1)


# Modules that list cases, each with a table CASES.
MODULES = (
    "handwritten_classifiers",
    "handwritten_heads",
    "handwritten_dense",
    "handwritten_inputs",
    "handwritten_outputs",
    "of_torchvision",
    "of_transformers",
    "of_transformers_stages",
    "of_transformers_dense",
    "of_segmentation",
    "of_monai",
    "of_vit_pytorch",
    "of_research",
    "of_fields",
    "of_detection",
)


def list_cases() -> list[Case]:
    """Every case, in the order of the table; no package is imported for it."""
    return [case for name in MODULES for case in import_module(f"benchmarks.packages.{name}").CASES]


def build(case: Case) -> nn.Module:
    """Build the network with seeded random weights, none of them neutral, in evaluation mode."""
    from benchmarks.networks import enliven

    torch.manual_seed(0)
    model = case.build()
    enliven(model)
    return model.eval()
