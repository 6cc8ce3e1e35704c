"""Grad-CAM once more, written independently of the package: the oracle of the tests."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def gradcam(
    network: nn.Module, layer: str, image: Tensor, class_idx: Tensor | None = None, prefix_tokens: int | None = None
) -> tuple[Tensor, Tensor]:
    """Class index and signed Grad-CAM map ``(N, h, w)`` from plain autograd, one image at a time.

    The network runs as a whole with a graph; the layer's output is kept by a hook that hands on a
    copy, so that in-place operations cannot touch what was kept.
    """
    chosen, maps = [], []
    for n in range(image.shape[0]):
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: Any, output: Any, kept: list[Tensor] = kept) -> Any:
            kept.append(output if isinstance(output, Tensor) else output[0])
            return output.clone() if isinstance(output, Tensor) else (output[0].clone(), *output[1:])

        handle = network.get_submodule(layer).register_forward_hook(keep)
        single = image[n : n + 1].clone().requires_grad_()
        output = network(single)
        handle.remove()
        logits = output["out"] if isinstance(output, Mapping) else output
        scores = logits.reshape(1, logits.shape[1], -1).sum(2)[0]
        index = int(scores.argmax()) if class_idx is None else int(class_idx[n])
        activations = kept[-1]
        (gradients,) = torch.autograd.grad(scores[index], activations)
        chosen.append(index)
        maps.append(_weighted_sum(activations[0].detach(), gradients[0], prefix_tokens))
    return torch.tensor(chosen), torch.stack(maps)


def _weighted_sum(activations: Tensor, gradients: Tensor, prefix_tokens: int | None) -> Tensor:
    if prefix_tokens is not None:  # (T, K) tokens on a square grid
        side = round((activations.shape[0] - prefix_tokens) ** 0.5)
        activations = activations[prefix_tokens:].t().reshape(-1, side, side)
        gradients = gradients[prefix_tokens:].t().reshape(-1, side, side)
    total = torch.zeros_like(activations[0])
    for channel in range(activations.shape[0]):
        total = total + gradients[channel].mean() * activations[channel]
    return total


def finished(signed: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Rectified, scaled to [0, 1] and, where a size is given, resized bilinearly."""
    maps = []
    for cam in signed:
        cam = cam.clamp(min=0)
        span = cam.max() - cam.min()
        cam = (cam - cam.min()) / span if span > 0 else torch.zeros_like(cam)
        if size is not None:
            cam = functional.interpolate(cam[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        maps.append(cam)
    return torch.stack(maps)
