"""Methods that score masked copies of the image or of the activations: each a function of a ``MethodContext``."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.counting import counting
from explainable_model.attribution.noise import gaussian_noise
from explainable_model.attribution.options import Count, NotNegative, Seed, Several
from explainable_model.errors import LayerError
from explainable_model.methods import masking
from explainable_model.methods.iscam import iscam as iscam_map
from explainable_model.methods.iscam import mask_factors
from explainable_model.methods.sscam import sscam as sscam_map

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

INTERVALS = 10
NOISY_MASKS = 10
MASK_NOISE = 2.0  # standard deviation; masks are in [0, 1]


def scorecam(context: "MethodContext") -> Tensor:
    """One pass of the network for each channel, on the image masked by it. See ``masking.scorecam``."""
    scores = _masked_scores(context, 1, lambda masks, _: masks).squeeze(1)
    return split(masking.scorecam(repeat(context.activations, context.classes), scores), context.classes)


def iscam(context: "MethodContext", *, samples: Several = INTERVALS) -> Tensor:
    """``samples - 1`` passes of the network for each channel, whose mask grows. See ``iscam.iscam``."""
    factors = mask_factors(samples)
    scores = _masked_scores(context, len(factors), lambda masks, number: factors[number] * masks)
    return split(iscam_map(repeat(context.activations, context.classes), scores, samples), context.classes)


def sscam(
    context: "MethodContext", *, samples: Count = NOISY_MASKS, noise: NotNegative = MASK_NOISE, seed: Seed = 0
) -> Tensor:
    """``samples`` passes of the network for each channel, on the image under its noisy mask. See ``sscam.sscam``."""
    drawn = noise * gaussian_noise(context.framed_image[:, :1], samples, seed)
    scores = _masked_scores(context, samples, lambda masks, number: masks + drawn[number])
    return split(sscam_map(repeat(context.activations, context.classes), scores), context.classes)


def _masked_scores(context: "MethodContext", samples: int, change: Callable[[Tensor, int], Tensor]) -> Tensor:
    """``(N * k, samples, K)``: scores of the image under the mask of each channel, changed in several ways.

    Args:
        context: of the layer whose channels are the masks.
        samples: how many masks are made of each channel.
        change: ``(masks (N, c, *size), sample) -> masks`` of some channels, for one of the samples.
    """
    channels = context.activations.shape[1]

    def masked(start: int, stop: int) -> Tensor:
        parts = []
        for sample in range(start // channels, (stop - 1) // channels + 1):
            first, last = max(start - sample * channels, 0), min(stop - sample * channels, channels)
            masks = masking.upsampled_masks(context.activations[:, first:last], context.size)
            parts.append(change(masks, sample).unsqueeze(2))
        return context.framed_image.unsqueeze(1) * (parts[0] if len(parts) == 1 else torch.cat(parts, 1))

    scores = context.image_scores(masked, samples * channels)
    return scores.reshape(-1, samples, channels)


def ablationcam(context: "MethodContext") -> Tensor:
    """One pass of the tail for each channel, without it. See ``masking.ablationcam``."""
    activations = context.activations
    # The masks are made for each chunk: those of all channels would be larger than the weights of many networks.
    count = counting(activations, 1)

    def ablated(start: int, stop: int) -> Tensor:
        removed = count[start:stop].unsqueeze(1) == count
        kept = (~removed).to(activations.dtype).reshape(1, stop - start, -1, *[1] * (activations.ndim - 2))
        return activations.unsqueeze(1) * kept

    scores = context.tail_scores(ablated, activations.shape[1]).flatten(0, 1)
    cam = masking.ablationcam(repeat(activations, context.classes), context.scores.flatten(), scores)
    return split(cam, context.classes)


def reciprocam(context: "MethodContext", *, gaussian: bool = False) -> Tensor:
    """One pass of the tail for each position, whose activations alone remain. See ``masking.reciprocam``."""
    activations, spatial = context.activations, context.activations.shape[2:]
    masks = masking.reciprocam_masks(spatial, gaussian=gaussian).to(activations)

    def masked(start: int, stop: int) -> Tensor:
        return activations.unsqueeze(1) * masks[start:stop].unsqueeze(1)

    scores = context.tail_scores(masked, len(masks)).flatten(0, 1)
    return split(masking.reciprocam(scores, spatial), context.classes)


def vit_reciprocam(context: "MethodContext", *, gaussian: bool = True) -> Tensor:
    """Recipro-CAM of patches; the tokens in front of them stay as they are.

    Raises:
        LayerError: the layer's output is not tokens.
    """
    if context.layout.kind != "tokens":
        raise LayerError(
            f"Method 'vitreciprocam' needs tokens (N, T, K); {context.plan.layers[context.layer]!r} has a map. Use "
            "'reciprocam' there."
        )
    return reciprocam(context, gaussian=gaussian)
