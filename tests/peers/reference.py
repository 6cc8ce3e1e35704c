"""Equations of the papers in float64, on activations and gradients that plain autograd has taken."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.peers.adapters import CLASSES, finished

Mask = Callable[[Tensor, tuple[int, ...]], Tensor]  # activations and the size of the image -> masks of that size


def layer_values(network: nn.Module, layer: str, image: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of the layer and the gradients of ``CLASSES`` by them, in float64."""
    kept: list[Tensor] = []
    wide: Any = copy.deepcopy(network).double()
    module = wide.get_submodule(layer)
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output) or output * 1)  # type: ignore[func-returns-value]
    scores = class_scores(wide(image.double().requires_grad_()))
    handle.remove()
    (gradients,) = torch.autograd.grad(scores.sum(), kept[0])
    return kept[0].detach(), gradients


def class_scores(logits: Tensor) -> Tensor:
    return logits[torch.arange(len(logits)), torch.tensor(CLASSES[: len(logits)])]


def weighted(weights: Tensor, activations: Tensor) -> Tensor:
    """``sum_k w_k A_k``, rectified and scaled, in float32."""
    return finished((weights.reshape(*weights.shape, *[1] * (activations.ndim - 2)) * activations).sum(1)).float()


def gradcam_plus_plus(activations: Tensor, gradients: Tensor, added: float = 0.0) -> Tensor:
    """Equation 19 of Chattopadhyay et al. 2018, with a constant ``added`` to the denominator."""
    total = activations.flatten(2).sum(2)[:, :, None, None]
    denominator = 2 * gradients**2 + total * gradients**3 + added
    alpha = torch.where(gradients > 0, gradients**2 / denominator, 0.0)
    return weighted((alpha * gradients.relu()).flatten(2).sum(2), activations)


def fem(activations: Tensor) -> tuple[Tensor, Tensor]:
    """The marks ``A > mean + 2 sigma`` of every channel, and the means."""
    flat = activations.flatten(2)
    limit = flat.mean(2) + 2 * flat.std(2, correction=0)
    return (activations > limit[:, :, None, None]).double(), flat.mean(2)


def projection(matrices: Tensor, *, centered: bool) -> Tensor:
    """``(N, K, h, w)`` on the first right singular vector of positions x channels: ``(N, h, w)``, of either sign."""
    maps = []
    for matrix in matrices.flatten(2).transpose(1, 2).numpy():
        rows = matrix - matrix.mean(0) if centered else matrix
        maps.append(rows @ np.linalg.svd(rows, full_matrices=False)[2][0])
    return torch.from_numpy(np.stack(maps)).reshape(-1, *matrices.shape[2:])


def masked_scores(network: nn.Module, activations: Tensor, image: Tensor, make_mask: Mask) -> Callable[[float], Tensor]:
    """A function from a factor to the scores ``(N, K)`` of the image under the masks times that factor."""
    wide = copy.deepcopy(network).double()
    masks = make_mask(activations, tuple(image.shape[2:])).unsqueeze(2)

    @torch.no_grad()
    def score(factor: float) -> Tensor:
        logits = [wide(factor * masks[:, k] * image.double()) for k in range(activations.shape[1])]
        return torch.stack([class_scores(each) for each in logits], 1)

    return score


def unit_range(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), True), maps.amax((2, 3), True)
    return (maps - low) / (high - low).clamp_min(1e-300)


def resized_then_scaled(activations: Tensor, size: tuple[int, ...]) -> Tensor:
    """The paper's mask, resized with half-pixel centers."""
    return unit_range(functional.interpolate(activations, size, mode="bilinear", align_corners=False))


def corners_then_scaled(activations: Tensor, size: tuple[int, ...]) -> Tensor:
    """The mask of pytorch-grad-cam."""
    return unit_range(functional.interpolate(activations, size, mode="bilinear", align_corners=True))


def scaled_then_resized(activations: Tensor, size: tuple[int, ...]) -> Tensor:
    """The mask of torchcam."""
    return functional.interpolate(unit_range(activations), size, mode="bilinear", align_corners=False)


def nearest_sign(found: Tensor, projected: Tensor) -> float:
    """The largest difference of finished maps, whichever sign the projection of each image has."""
    both = torch.stack([finished(projected), finished(-projected)]).float()
    return float((both - found).abs().flatten(2).amax(2).amin(0).amax())
