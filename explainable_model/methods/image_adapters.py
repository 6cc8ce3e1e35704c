"""Methods that explain at the image: each a function of a ``MethodContext``."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.options import Count, NotNegative, Seed
from explainable_model.methods import input_gradient
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.noise import NOISE, SAMPLES, noisy_copies

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

STEPS = 32


def saliency(context: "MethodContext") -> Tensor:
    """See ``input_gradient.saliency``."""
    return split(input_gradient.saliency(context.image_gradients().flatten(0, 1)), context.classes)


def guided_backprop(context: "MethodContext") -> Tensor:
    """Saliency of gradients that pass a ReLU only where they are positive.

    Source: Springenberg et al. 2015, arXiv 1412.6806.
    """
    return split(input_gradient.saliency(context.guided_image_gradients().flatten(0, 1)), context.classes)


def guided_gradcam(context: "MethodContext") -> Tensor:
    """See ``input_gradient.guided_gradcam``."""
    gradients = context.averaged_gradients().flatten(0, 1)
    cam = gradcam(repeat(context.activations, context.classes), gradients).relu()
    large = context.upsampled(split(cam, context.classes)).flatten(0, 1)
    guided = context.guided_image_gradients().flatten(0, 1)
    return split(input_gradient.guided_gradcam(large, guided), context.classes)


def inputxgradient(context: "MethodContext") -> Tensor:
    """See ``input_gradient.inputxgradient``."""
    gradients = context.image_gradients().flatten(0, 1)
    return split(input_gradient.inputxgradient(repeat(context.image, context.classes), gradients), context.classes)


def smoothgrad(
    context: "MethodContext", *, samples: Count = SAMPLES, noise: NotNegative = NOISE, seed: Seed = 0
) -> Tensor:
    """Saliency of the mean gradient over noisy copies of the image; the noise is fixed by ``seed``.

    Its standard deviation is ``noise`` times the image's range, as in the paper.
    """
    total = sum(_summed_gradients(context, images) for images in noisy_copies(context, samples, noise, seed))
    assert isinstance(total, Tensor)
    mean = (total / samples).flatten(0, 1)
    return split(input_gradient.smoothgrad(mean.unsqueeze(1)), context.classes)


def integrated_gradients(context: "MethodContext", *, steps: Count = STEPS, baseline: float = 0.0) -> Tensor:
    """See ``input_gradient.integrated_gradients``; the baseline is an image of one value."""
    start = torch.full_like(context.image[:1], baseline)
    path = input_gradient.integration_path(context.image, start, steps)
    chunks = context.image_chunks(steps)
    total = sum(_summed_gradients(context, path[:, first:last]) for first, last in chunks)
    assert isinstance(total, Tensor)
    mean = (total / steps).flatten(0, 1)
    image = repeat(context.image, context.classes)
    return split(input_gradient.integrated_gradients(image, start, mean.unsqueeze(1)), context.classes)


def _summed_gradients(context: "MethodContext", images: Tensor) -> Tensor:
    """``(N, k, C, *spatial)``: sum of the image gradients of some copies."""
    return split(context.rerun(images).image_gradients(), images.shape[1]).sum(1)


def fullgrad(context: "MethodContext") -> Tensor:
    """See ``input_gradient.fullgrad``: the bias of every operator times the gradient by its output."""
    (_, image_gradient), *biases = context.tap_gradients()
    shares = [repeat(bias, context.classes) * gradient.flatten(0, 1) for bias, gradient in biases]
    image = repeat(context.image, context.classes)
    return split(input_gradient.fullgrad(image, image_gradient.flatten(0, 1), shares), context.classes)
