"""Methods that ask the network more than once, or more than a layer: each a function of a ``MethodContext``.

The mathematics is in the pure functions that they call; here is which passes they need.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from explainable_model.attribution.batching import repeat, split
from explainable_model.attribution.layout import find_layout
from explainable_model.attribution.plan import ATTENTION_LAYERS
from explainable_model.errors import LayerError, ModelError
from explainable_model.methods import input_gradient, masking
from explainable_model.methods.attention import legrad as legrad_map
from explainable_model.methods.attention import rollout as rollout_map
from explainable_model.methods.finercam import GAMMA, REFERENCES, finercam_weights
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.gradcam_plus_plus import smoothgradcam_plus_plus
from explainable_model.methods.noise import gaussian_noise
from explainable_model.methods.shapleycam import shapleycam as shapleycam_map
from explainable_model.methods.weighting import weighted_sum

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

SAMPLES = 16
NOISE = 0.15
STEPS = 32


def cam(context: "MethodContext") -> Tensor:
    """``map = sum_k w_k A_k`` with ``w_k = sum_ij g_kij``: the classifier's weight for channel k.

    Behind the layer there must be average pooling and a linear classifier; then ``g_kij = W_ck / (h w)`` at
    every position, and the sum of the gradient is the class's row of the weight, which is what is left in the
    artifact. Behind pooling and a deeper classifier it is the weight of the classifier's linear part at
    this image.

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
    context: "MethodContext", *, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0
) -> Tensor:
    """Smooth Grad-CAM++ over noisy copies of the image; the noise is fixed by ``seed``.

    Source: Omeiza et al. 2019, arXiv 1908.01224.
    """
    parts = []
    for images in _noisy(context, samples, noise, seed):
        parts.append(split(context.rerun(images).gradients(), images.shape[1]))
    gradients = torch.cat(parts, 1).transpose(1, 2).flatten(0, 1)  # (N * k, samples, K, *grid)
    return split(smoothgradcam_plus_plus(repeat(context.activations, context.classes), gradients), context.classes)


def shapleycam(context: "MethodContext") -> Tensor:
    """See ``methods.shapleycam.shapleycam``."""
    gradients, products = context.gradients().flatten(0, 1), context.curvature().flatten(0, 1)
    return split(shapleycam_map(repeat(context.activations, context.classes), gradients, products), context.classes)


def finercam(context: "MethodContext", *, gamma: float = GAMMA, references: int = REFERENCES) -> Tensor:
    """Grad-CAM of what tells a class from those most like it, see ``finercam_weights``.

    Raises:
        ModelError: the target is a function, so there are no scores of other classes.
    """
    scores = context.first.scores
    if scores.values.shape[1] != scores.classes:
        raise ModelError("Method 'finercam' compares classes; a target of one's own has no scores of the others.")
    columns = scores.columns.unbind(1)
    weights = [finercam_weights(scores.values, column, gamma=gamma, references=references) for column in columns]
    gradients = context.gradients(torch.stack(weights, 1)).flatten(0, 1)
    return split(gradcam(repeat(context.activations, context.classes), gradients), context.classes)


def scorecam(context: "MethodContext") -> Tensor:
    """One pass of the network for each channel, on the image masked by it. See ``masking.scorecam``."""

    def masked(start: int, stop: int) -> Tensor:
        masks = masking.upsampled_masks(context.activations[:, start:stop], context.size)
        return context.image.unsqueeze(1) * masks.unsqueeze(2)

    scores = context.image_scores(masked, context.activations.shape[1])
    return split(masking.scorecam(repeat(context.activations, context.classes), scores.flatten(0, 1)), context.classes)


def ablationcam(context: "MethodContext") -> Tensor:
    """One pass of the tail for each channel, without it. See ``masking.ablationcam``."""
    activations = context.activations
    # A running count: the masks of all channels together would be larger than the weights of many networks.
    count = torch.ones_like(activations[:1].flatten(2)[:, :, 0]).cumsum(1) - 1

    def ablated(start: int, stop: int) -> Tensor:
        gone = count[:, start:stop].transpose(0, 1) == count
        kept = (~gone).to(activations.dtype).reshape(1, stop - start, -1, *[1] * (activations.ndim - 2))
        return activations.unsqueeze(1) * kept

    scores = context.tail_scores(ablated, activations.shape[1]).flatten(0, 1)
    cam = masking.ablationcam(repeat(activations, context.classes), context.scores.flatten(), scores)
    return split(cam, context.classes)


def reciprocam(context: "MethodContext", *, gaussian: bool = False) -> Tensor:
    """One pass of the tail for each position, with what is there alone. See ``masking.reciprocam``."""
    activations, spatial = context.activations, context.activations.shape[2:]
    masks = masking.reciprocam_masks(spatial, gaussian=gaussian).to(activations)

    def masked(start: int, stop: int) -> Tensor:
        return activations.unsqueeze(1) * masks[start:stop].unsqueeze(1)

    scores = context.tail_scores(masked, len(masks)).flatten(0, 1)
    return split(masking.reciprocam(scores, spatial), context.classes)


def vit_reciprocam(context: "MethodContext", *, gaussian: bool = True) -> Tensor:
    """Recipro-CAM of patches; the tokens in front of them stay as they are. See ``masking.vit_reciprocam_masks``.

    Raises:
        LayerError: the layer's output is not tokens.
    """
    if context.layout.kind != "tokens":
        raise LayerError(
            f"Method 'vitreciprocam' needs tokens (N, T, K); {context.plan.layers[context.layer]!r} has a map. Use "
            "'reciprocam' there."
        )
    return reciprocam(context, gaussian=gaussian)


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
    gradients = context.gradients().flatten(0, 1)
    cam = gradcam(repeat(context.activations, context.classes), gradients).relu()
    large = context.upsampled(split(cam, context.classes)).flatten(0, 1)
    guided = context.guided_image_gradients().flatten(0, 1)
    return split(input_gradient.guided_gradcam(large, guided), context.classes)


def inputxgradient(context: "MethodContext") -> Tensor:
    """See ``input_gradient.inputxgradient``."""
    gradients = context.image_gradients().flatten(0, 1)
    return split(input_gradient.inputxgradient(repeat(context.image, context.classes), gradients), context.classes)


def smoothgrad(context: "MethodContext", *, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0) -> Tensor:
    """Saliency of the mean gradient over noisy copies of the image; the noise is fixed by ``seed``.

    Its standard deviation is ``noise`` times the image's range, as in the paper.
    """
    total = sum(_summed_gradients(context, images) for images in _noisy(context, samples, noise, seed))
    assert isinstance(total, Tensor)
    mean = (total / samples).flatten(0, 1)
    return split(input_gradient.smoothgrad(mean.unsqueeze(1)), context.classes)


def integrated_gradients(context: "MethodContext", *, steps: int = STEPS, baseline: float = 0.0) -> Tensor:
    """See ``input_gradient.integrated_gradients``; the baseline is an image of one value."""
    start = torch.full_like(context.image[:1], baseline)
    path = input_gradient.integration_path(context.image, start, steps)
    chunks = context.image_chunks(steps)
    total = sum(_summed_gradients(context, path[:, first:last]) for first, last in chunks)
    assert isinstance(total, Tensor)
    mean = (total / steps).flatten(0, 1)
    image = repeat(context.image, context.classes)
    return split(input_gradient.integrated_gradients(image, start, mean.unsqueeze(1)), context.classes)


def fullgrad(context: "MethodContext") -> Tensor:
    """See ``input_gradient.fullgrad``: the gradient at the output of every layer with a bias, times the bias."""
    (_, image_gradient), *layers = context.tap_gradients()
    shares = []
    for bias, (activations, gradient) in zip(context.plan.side_values, layers, strict=True):
        if activations.ndim == context.image.ndim:  # layers behind the pooling have no map
            shares.append(gradient.flatten(0, 1) * bias.reshape(-1, *[1] * (activations.ndim - 2)))
    image = repeat(context.image, context.classes)
    return split(input_gradient.fullgrad(image, image_gradient.flatten(0, 1), shares), context.classes)


def bias_layers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """Every layer with a bias, and the bias; batch norm's is what is left of it for an input of zero."""
    found: list[tuple[str, Tensor]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            scale = torch.rsqrt(module.running_var + module.eps)
            scale = scale if module.weight is None else scale * module.weight
            shift = 0.0 if module.bias is None else module.bias
            found.append((name, (shift - module.running_mean * scale).detach()))
        elif isinstance(module, nn.modules.conv._ConvNd) and module.bias is not None:
            found.append((name, module.bias.detach()))
    return found


def attention_layers(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The attention of every block."""
    return [(ATTENTION_LAYERS, torch.empty(0))]


def legrad(context: "MethodContext") -> Tensor:
    """See ``attention.legrad``."""
    gradients = [gradient.flatten(0, 1) for _, gradient in context.tap_gradients()]
    grid, prefix = _token_grid(context, gradients[0])
    return split(legrad_map(gradients, prefix).reshape(-1, *grid), context.classes)


def rollout(context: "MethodContext") -> Tensor:
    """See ``attention.rollout``; every class gets the same map."""
    attentions = context.first.activations
    grid, prefix = _token_grid(context, attentions[0])
    cam = rollout_map(attentions, prefix).reshape(-1, *grid)
    return split(repeat(cam, context.classes), context.classes)


def _token_grid(context: "MethodContext", attention: Tensor) -> tuple[tuple[int, ...], int]:
    shape = (*context.image.shape[:1], attention.shape[-1], 1)
    layout = find_layout(shape, context.image.shape, context.plan.patches)
    if layout is None or layout.kind != "tokens":
        raise LayerError(
            f"Method {context.plan.method.name!r} needs attention over the whole image; this network's is over "
            f"{attention.shape[-1]} tokens, which are no grid of an image of {tuple(context.size)} (windows, perhaps). "
            "Use a method that explains at a layer."
        )
    return layout.grid, layout.prefix


def _noisy(context: "MethodContext", samples: int, noise: float, seed: int) -> Iterator[Tensor]:
    """Noisy copies ``(N, chunk, C, *spatial)``."""
    image = context.image
    dims = list(range(1, image.ndim))
    spread = noise * (image.amax(dims, keepdim=True) - image.amin(dims, keepdim=True)).unsqueeze(1)
    every = gaussian_noise(image, samples, seed)
    for start, stop in context.image_chunks(samples):
        yield image.unsqueeze(1) + spread * every[start:stop]


def _summed_gradients(context: "MethodContext", images: Tensor) -> Tensor:
    """``(N, k, C, *spatial)``: sum of the image gradients of some copies."""
    return split(context.rerun(images).image_gradients(), images.shape[1]).sum(1)


# CAM asks that the gradient be the same at every position of a channel: within this share of the largest.
HEAD_TOLERANCE = 1e-3
