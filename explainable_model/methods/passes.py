"""Methods that ask the network more than once, or more than a layer: each a function of a ``Probe``.

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
    from explainable_model.attribution.probe import Probe

SAMPLES = 16
NOISE = 0.15
STEPS = 32


def cam(probe: "Probe") -> Tensor:
    """``map = sum_k w_k A_k`` with ``w_k = sum_ij g_kij``: the classifier's weight for channel k.

    Behind the layer there must be average pooling and a linear classifier; then ``g_kij = W_ck / (h w)`` at
    every position, and the sum of the gradient is the class's row of the weight, which is what is left in the
    artifact. Behind pooling and a deeper classifier it is the weight of the classifier's linear part at
    this image.

    Raises:
        ModelError: what follows the layer is not average pooling (checked eagerly).

    Source: Zhou et al. 2016, arXiv 1512.04150, equation 1.
    """
    gradients = probe.gradients().flatten(0, 1)
    if not torch.compiler.is_exporting():
        flat = gradients.flatten(2)
        if bool(((flat.amax(2) - flat.amin(2)).amax() > HEAD_TOLERANCE * flat.abs().amax()).any()):
            raise ModelError(
                f"Method 'cam' needs average pooling and a linear classifier behind the layer; behind "
                f"{probe.plan.layers[probe.layer]!r} the gradient differs from place to place. Use 'gradcam'."
            )
    activations = repeat(probe.activations, probe.classes)
    return split(weighted_sum(gradients.flatten(2).sum(2), activations), probe.classes)


def smoothgradcam_pp(probe: "Probe", *, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0) -> Tensor:
    """Smooth Grad-CAM++ over noisy copies of the image; the noise is fixed by ``seed``.

    Source: Omeiza et al. 2019, arXiv 1908.01224.
    """
    parts = []
    for images in _noisy(probe, samples, noise, seed):
        parts.append(split(probe.rerun(images).gradients(), images.shape[1]))
    gradients = torch.cat(parts, 1).transpose(1, 2).flatten(0, 1)  # (N * k, samples, K, *grid)
    return split(smoothgradcam_plus_plus(repeat(probe.activations, probe.classes), gradients), probe.classes)


def shapleycam(probe: "Probe") -> Tensor:
    """See ``methods.shapleycam.shapleycam``."""
    gradients, products = probe.gradients().flatten(0, 1), probe.curvature().flatten(0, 1)
    return split(shapleycam_map(repeat(probe.activations, probe.classes), gradients, products), probe.classes)


def finercam(probe: "Probe", *, gamma: float = GAMMA, references: int = REFERENCES) -> Tensor:
    """Grad-CAM of what tells a class from those most like it, see ``finercam_weights``.

    Raises:
        ModelError: the target is a function, so there are no scores of other classes.
    """
    scores = probe.first.scores
    if scores.values.shape[1] != scores.classes:
        raise ModelError("Method 'finercam' compares classes; a target of one's own has no scores of the others.")
    columns = scores.columns.unbind(1)
    weights = [finercam_weights(scores.values, column, gamma=gamma, references=references) for column in columns]
    gradients = probe.gradients(torch.stack(weights, 1)).flatten(0, 1)
    return split(gradcam(repeat(probe.activations, probe.classes), gradients), probe.classes)


def scorecam(probe: "Probe") -> Tensor:
    """One pass of the network for each channel, on the image masked by it. See ``masking.scorecam``."""

    def masked(start: int, stop: int) -> Tensor:
        masks = masking.upsampled_masks(probe.activations[:, start:stop], probe.size)
        return probe.image.unsqueeze(1) * masks.unsqueeze(2)

    scores = probe.image_scores(masked, probe.activations.shape[1])
    return split(masking.scorecam(repeat(probe.activations, probe.classes), scores.flatten(0, 1)), probe.classes)


def ablationcam(probe: "Probe") -> Tensor:
    """One pass of the tail for each channel, without it. See ``masking.ablationcam``."""
    activations = probe.activations
    # A running count: the masks of all channels together would be larger than the weights of many networks.
    count = torch.ones_like(activations[:1].flatten(2)[:, :, 0]).cumsum(1) - 1

    def ablated(start: int, stop: int) -> Tensor:
        gone = count[:, start:stop].transpose(0, 1) == count
        kept = (~gone).to(activations.dtype).reshape(1, stop - start, -1, *[1] * (activations.ndim - 2))
        return activations.unsqueeze(1) * kept

    scores = probe.tail_scores(ablated, activations.shape[1]).flatten(0, 1)
    cam = masking.ablationcam(repeat(activations, probe.classes), probe.scores.flatten(), scores)
    return split(cam, probe.classes)


def reciprocam(probe: "Probe", *, gaussian: bool = False) -> Tensor:
    """One pass of the tail for each position, with what is there alone. See ``masking.reciprocam``."""
    activations, spatial = probe.activations, probe.activations.shape[2:]
    masks = masking.reciprocam_masks(spatial, gaussian=gaussian).to(activations)

    def masked(start: int, stop: int) -> Tensor:
        return activations.unsqueeze(1) * masks[start:stop].unsqueeze(1)

    scores = probe.tail_scores(masked, len(masks)).flatten(0, 1)
    return split(masking.reciprocam(scores, spatial), probe.classes)


def vit_reciprocam(probe: "Probe", *, gaussian: bool = True) -> Tensor:
    """Recipro-CAM of patches; the tokens in front of them stay as they are. See ``masking.vit_reciprocam_masks``.

    Raises:
        LayerError: the layer's output is not tokens.
    """
    if probe.layout.kind != "tokens":
        raise LayerError(
            f"Method 'vitreciprocam' needs tokens (N, T, K); {probe.plan.layers[probe.layer]!r} has a map. Use "
            "'reciprocam' there."
        )
    return reciprocam(probe, gaussian=gaussian)


def saliency(probe: "Probe") -> Tensor:
    """See ``input_gradient.saliency``."""
    return split(input_gradient.saliency(probe.image_gradients().flatten(0, 1)), probe.classes)


def guided_backprop(probe: "Probe") -> Tensor:
    """Saliency of gradients that pass a ReLU only where they are positive.

    Source: Springenberg et al. 2015, arXiv 1412.6806.
    """
    return split(input_gradient.saliency(probe.image_gradients(guided=True).flatten(0, 1)), probe.classes)


def guided_gradcam(probe: "Probe") -> Tensor:
    """See ``input_gradient.guided_gradcam``."""
    gradients = probe.gradients().flatten(0, 1)
    cam = gradcam(repeat(probe.activations, probe.classes), gradients).relu()
    large = probe.upsampled(split(cam, probe.classes)).flatten(0, 1)
    guided = probe.image_gradients(guided=True).flatten(0, 1)
    return split(input_gradient.guided_gradcam(large, guided), probe.classes)


def inputxgradient(probe: "Probe") -> Tensor:
    """See ``input_gradient.inputxgradient``."""
    gradients = probe.image_gradients().flatten(0, 1)
    return split(input_gradient.inputxgradient(repeat(probe.image, probe.classes), gradients), probe.classes)


def smoothgrad(probe: "Probe", *, samples: int = SAMPLES, noise: float = NOISE, seed: int = 0) -> Tensor:
    """Saliency of the mean gradient over noisy copies of the image; the noise is fixed by ``seed``.

    Its standard deviation is ``noise`` times the image's range, as in the paper.
    """
    total = sum(_summed_gradients(probe, images) for images in _noisy(probe, samples, noise, seed))
    assert isinstance(total, Tensor)
    mean = (total / samples).flatten(0, 1)
    return split(input_gradient.smoothgrad(mean.unsqueeze(1)), probe.classes)


def integrated_gradients(probe: "Probe", *, steps: int = STEPS, baseline: float = 0.0) -> Tensor:
    """See ``input_gradient.integrated_gradients``; the baseline is an image of one value."""
    start = torch.full_like(probe.image[:1], baseline)
    path = input_gradient.integration_path(probe.image, start, steps)
    chunks = probe.image_chunks(steps)
    total = sum(_summed_gradients(probe, path[:, first:last]) for first, last in chunks)
    assert isinstance(total, Tensor)
    mean = (total / steps).flatten(0, 1)
    image = repeat(probe.image, probe.classes)
    return split(input_gradient.integrated_gradients(image, start, mean.unsqueeze(1)), probe.classes)


def fullgrad(probe: "Probe") -> Tensor:
    """See ``input_gradient.fullgrad``: the gradient at the output of every layer with a bias, times the bias."""
    (_, image_gradient), *layers = probe.tap_gradients()
    shares = []
    for bias, (activations, gradient) in zip(probe.plan.side_values, layers, strict=True):
        if activations.ndim == probe.image.ndim:  # layers behind the pooling have no map
            shares.append(gradient.flatten(0, 1) * bias.reshape(-1, *[1] * (activations.ndim - 2)))
    image = repeat(probe.image, probe.classes)
    return split(input_gradient.fullgrad(image, image_gradient.flatten(0, 1), shares), probe.classes)


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


def legrad(probe: "Probe") -> Tensor:
    """See ``attention.legrad``."""
    gradients = [gradient.flatten(0, 1) for _, gradient in probe.tap_gradients()]
    grid, prefix = _token_grid(probe, gradients[0])
    return split(legrad_map(gradients, prefix).reshape(-1, *grid), probe.classes)


def rollout(probe: "Probe") -> Tensor:
    """See ``attention.rollout``; every class gets the same map."""
    attentions = probe.first.activations
    grid, prefix = _token_grid(probe, attentions[0])
    cam = rollout_map(attentions, prefix).reshape(-1, *grid)
    return split(repeat(cam, probe.classes), probe.classes)


def _token_grid(probe: "Probe", attention: Tensor) -> tuple[tuple[int, ...], int]:
    layout = find_layout((*probe.image.shape[:1], attention.shape[-1], 1), probe.image.shape)
    if layout is None or layout.kind != "tokens":
        raise LayerError(
            f"Method {probe.plan.method!r} needs attention over the whole image; this network's is over "
            f"{attention.shape[-1]} tokens, which are no grid of an image of {tuple(probe.size)} (windows, perhaps). "
            "Use a method that explains at a layer."
        )
    return layout.grid, layout.prefix


def _noisy(probe: "Probe", samples: int, noise: float, seed: int) -> Iterator[Tensor]:
    """Noisy copies ``(N, chunk, C, *spatial)``."""
    image = probe.image
    dims = list(range(1, image.ndim))
    spread = noise * (image.amax(dims, keepdim=True) - image.amin(dims, keepdim=True)).unsqueeze(1)
    every = gaussian_noise(image, samples, seed)
    for start, stop in probe.image_chunks(samples):
        yield image.unsqueeze(1) + spread * every[start:stop]


def _summed_gradients(probe: "Probe", images: Tensor) -> Tensor:
    """``(N, k, C, *spatial)``: sum of the image gradients of some copies."""
    return split(probe.rerun(images).image_gradients(), images.shape[1]).sum(1)


# CAM asks that the gradient be the same at every position of a channel: within this share of the largest.
HEAD_TOLERANCE = 1e-3
