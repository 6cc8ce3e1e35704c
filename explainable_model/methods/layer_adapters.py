"""Methods of one layer that need more than its activations and gradients: each a function of a ``MethodContext``."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.noise import NOISE, SAMPLES, noisy_copies
from explainable_model.attribution.options import Count, NotNegative, Seed
from explainable_model.errors import ModelError
from explainable_model.methods.finercam import GAMMA, REFERENCES, finercam_weights
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.gradcam_plus_plus import smoothgradcam_plus_plus
from explainable_model.methods.shapleycam import shapleycam as shapleycam_map
from explainable_model.methods.weighting import weighted_sum

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

# CAM asks that the gradient be the same at every position of a channel: within this share of the largest.
HEAD_TOLERANCE = 1e-3


def cam(context: "MethodContext") -> Tensor:
    """``map = sum_k w_k A_k`` with ``w_k = sum_ij g_kij``: the classifier's weight for channel k.

    Behind the layer there must be average pooling and a linear classifier; then ``g_kij = W_ck / (h w)`` at
    every position, and the sum of the gradient is the class's row of the weight; the artifact reads that row. Behind
    pooling and a deeper classifier the sum is the gradient of that classifier at this image.

    Raises:
        ModelError: what follows the layer is not average pooling (checked eagerly).

    Source: Zhou et al. 2016, arXiv 1512.04150, equation 1.
    """
    gradients = context.gradients().flatten(0, 1)
    if not torch.compiler.is_exporting():
        flat = gradients.flatten(2)
        if bool(((flat.amax(2) - flat.amin(2)).amax() > HEAD_TOLERANCE * flat.abs().amax()).any()):
            raise ModelError(
                f"Method 'cam' needs average pooling and a linear classifier behind the layer; behind "
                f"{context.plan.layers[context.layer]!r} the gradient differs from place to place. Use 'gradcam'."
            )
    activations = repeat(context.activations, context.classes)
    return split(weighted_sum(gradients.flatten(2).sum(2), activations), context.classes)


def smoothgradcam_pp(
    context: "MethodContext", *, samples: Count = SAMPLES, noise: NotNegative = NOISE, seed: Seed = 0
) -> Tensor:
    """Smooth Grad-CAM++ over noisy copies of the image; the noise is fixed by ``seed``.

    Source: Omeiza et al. 2019, arXiv 1908.01224.
    """
    parts = []
    for images in noisy_copies(context, samples, noise, seed):
        parts.append(split(context.rerun(images).gradients(), images.shape[1]))
    gradients = torch.cat(parts, 1).transpose(1, 2).flatten(0, 1)  # (N * k, samples, K, *grid)
    return split(smoothgradcam_plus_plus(repeat(context.activations, context.classes), gradients), context.classes)


def shapleycam(context: "MethodContext") -> Tensor:
    """See ``methods.shapleycam.shapleycam``."""
    gradients, products = context.averaged_gradients().flatten(0, 1), context.averaged_curvature().flatten(0, 1)
    return split(shapleycam_map(repeat(context.activations, context.classes), gradients, products), context.classes)


def finercam(context: "MethodContext", *, gamma: NotNegative = GAMMA, references: Count = REFERENCES) -> Tensor:
    """Grad-CAM of a score that compares a class with those most like it, see ``finercam_weights``.

    Raises:
        ModelError: the target is a function, so there are no scores of other classes.
    """
    scores = context.first.scores
    if scores.values.shape[1] != scores.classes:
        raise ModelError("Method 'finercam' compares classes; a target of one's own has no scores of the others.")
    columns = scores.columns.unbind(1)
    weights = [finercam_weights(scores.values, column, gamma=gamma, references=references) for column in columns]
    gradients = context.averaged_gradients(torch.stack(weights, 1)).flatten(0, 1)
    return split(gradcam(repeat(context.activations, context.classes), gradients), context.classes)
