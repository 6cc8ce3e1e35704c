"""Compares the maps of a trained network with those of a copy whose weights are random."""

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from explainable_model.errors import InputError
from explainable_model.evaluation.stability import correlate_ranks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explainable_model.model import ExplainableModel

ModuleT = TypeVar("ModuleT", bound="nn.Module")


def randomize_network(network: ModuleT, *, top: int | None = None, seed: int = 0) -> ModuleT:
    """Copy a network, or the wrapper round it, and give its last modules random weights.

    Weights are permuted within each tensor, so that their distribution stays; running statistics stay.

    Args:
        network: stays as it is.
        top: how many modules with weights, counted from the output; ``None`` for all.
        seed: of the permutations.

    Source: model parameter randomization test, Adebayo et al. 2018, arXiv 1810.03292, section 3.
    """
    import torch

    copy = deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    modules = list_weighted(copy)
    with torch.no_grad():
        for module in modules[len(modules) - (len(modules) if top is None else top) :]:
            for weight in module.parameters(recurse=False):
                order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
                weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return copy


def list_weighted(network: "nn.Module") -> "list[nn.Module]":
    """List the modules that hold weights themselves, in the order of the network's definition."""
    return [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]


def randomize_by_layer(
    explainable: "ExplainableModel", image: "Tensor", class_idx: "Tensor | int | None" = None, *, seed: int = 0
) -> Iterator[tuple[str, float]]:
    """Randomize the network from its output down, a module at a time, and compare the maps after each step.

    Args:
        explainable: the wrapper, which stays as it is.
        image: ``(N, C, H, W)``.
        class_idx: as of the wrapper; ``None`` for the class that the trained network predicts.
        seed: of the permutations.

    Yields:
        The name of the module that was randomized last, and the mean of the images' rank correlations with the map of
        the trained network. Values near 0 are sane; values near 1 say that the map does not depend on these weights.

    Raises:
        InputError: a network without weights.

    Source: cascading randomization, Adebayo et al. 2018, arXiv 1810.03292, section 4.
    """
    modules = list_weighted(explainable.model)
    if not modules:
        raise InputError(f"{type(explainable.model).__name__} has no weights; expected a trained network.")
    names = {module: name for name, module in explainable.model.named_modules()}
    trained = explainable(image, class_idx)
    for top in range(1, len(modules) + 1):
        cam = randomize_network(explainable, top=top, seed=seed)(image, trained.class_idx).cam
        pairs = zip(trained.cam.double().numpy(), cam.double().numpy(), strict=True)
        yield names[modules[-top]], float(np.mean([correlate_ranks(a, b) for a, b in pairs]))
