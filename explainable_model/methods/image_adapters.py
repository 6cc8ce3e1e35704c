"""Methods that explain at the image: each a function of a ``MethodContext``."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.noise import NOISE, SAMPLES, noisy_copies, uniform_numbers
from explainable_model.attribution.options import Baseline, Count, NotNegative, Seed
from explainable_model.errors import InputError
from explainable_model.methods import input_gradient
from explainable_model.methods.gradcam import gradcam

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


def smoothgrad_sq(
    context: "MethodContext", *, samples: Count = SAMPLES, noise: NotNegative = NOISE, seed: Seed = 0
) -> Tensor:
    """See ``input_gradient.smoothgrad_sq``; the noise is that of ``smoothgrad``."""
    gradients = _noisy_gradients(context, samples, noise, seed)
    return split(input_gradient.smoothgrad_sq(gradients), context.classes)


def vargrad(
    context: "MethodContext", *, samples: Count = SAMPLES, noise: NotNegative = NOISE, seed: Seed = 0
) -> Tensor:
    """See ``input_gradient.vargrad``; the noise is that of ``smoothgrad``."""
    return split(input_gradient.vargrad(_noisy_gradients(context, samples, noise, seed)), context.classes)


def integrated_gradients(context: "MethodContext", *, steps: Count = STEPS, baseline: Baseline = 0.0) -> Tensor:
    """See ``input_gradient.integrated_gradients``; the baseline is an image of one value, or one of the user's.

    Raises:
        InputError: the baseline is of another size than the image.
    """
    start = find_baselines(context.image, baseline)[:1]
    path = input_gradient.integration_path(context.image, start, steps)
    chunks = context.image_chunks(steps)
    total = sum(_summed_gradients(context, path[:, first:last]) for first, last in chunks)
    assert isinstance(total, Tensor)
    mean = (total / steps).flatten(0, 1)
    image = repeat(context.image, context.classes)
    return split(input_gradient.integrated_gradients(image, start, mean.unsqueeze(1)), context.classes)


def expected_gradients(
    context: "MethodContext",
    *,
    samples: Count = STEPS,
    baseline: Baseline = 0.0,
    noise: NotNegative = 0.0,
    seed: Seed = 0,
) -> Tensor:
    """See ``input_gradient.expected_gradients``; with ``noise``, this is GradientSHAP.

    Args:
        context: of the image.
        samples: how many points on the ways from the baselines to the image.
        baseline: images ``(B, C, *size)`` that stand for nothing to see, such as some of the training set; each
            takes its turn. A number is an image of one value.
        noise: standard deviation of noise on the image, as a share of its range.
        seed: of the points and of the noise.

    Raises:
        InputError: the baselines are of another size than the image.
    """
    image = context.image
    starts = find_baselines(image, baseline)
    turns = starts[[sample % len(starts) for sample in range(samples)]]
    points = uniform_numbers(image, 1, samples, seed).to(image.dtype).reshape(1, samples, *[1] * (image.ndim - 1))
    parts, first = [], 0
    for ends in noisy_copies(context, samples, noise, seed):
        last = first + ends.shape[1]
        begin = turns[first:last].unsqueeze(0)
        way = ends - begin
        gradients = split(context.rerun(begin + points[:, first:last] * way).image_gradients(), last - first)
        parts.append((gradients * way.unsqueeze(2)).sum(1))
        first = last
    mean = torch.stack(parts).sum(0) / samples
    return split(input_gradient.expected_gradients(mean.flatten(0, 1)), context.classes)


def find_baselines(image: Tensor, baseline: float | Tensor) -> Tensor:
    """The baselines of an image ``(N, C, *size)``, as images ``(B, C, *size)``.

    Raises:
        InputError: they are of another size than the image.
    """
    if not isinstance(baseline, Tensor):
        return torch.full_like(image[:1], baseline)
    given = baseline if baseline.ndim == image.ndim else baseline.unsqueeze(0)
    if tuple(given.shape[1:]) != tuple(image.shape[1:]):
        raise InputError(
            f"The baseline has shape {tuple(baseline.shape)}, and the image is {tuple(image.shape[1:])}; expected "
            "images of that size, prepared as those of the network."
        )
    return given.to(image)


def _noisy_gradients(context: "MethodContext", samples: int, noise: float, seed: int) -> Tensor:
    """``(N * k, samples, C, *spatial)``: image gradients of noisy copies."""
    copies = noisy_copies(context, samples, noise, seed)
    parts = [split(context.rerun(images).image_gradients(), images.shape[1]) for images in copies]
    return torch.cat(parts, 1).transpose(1, 2).flatten(0, 1)


def _summed_gradients(context: "MethodContext", images: Tensor) -> Tensor:
    """``(N, k, C, *spatial)``: sum of the image gradients of some copies."""
    return split(context.rerun(images).image_gradients(), images.shape[1]).sum(1)


def fullgrad(context: "MethodContext") -> Tensor:
    """See ``input_gradient.fullgrad``: the bias of every operator times the gradient by its output."""
    (_, image_gradient), *biases = context.tap_gradients()
    shares = [repeat(bias, context.classes) * gradient.flatten(0, 1) for bias, gradient in biases]
    image = repeat(context.image, context.classes)
    return split(input_gradient.fullgrad(image, image_gradient.flatten(0, 1), shares), context.classes)
