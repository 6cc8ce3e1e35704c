"""The procedure that predicts and explains, for every kind of network; ``torch.export`` can trace it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from explainable_model.attribution.batching import split
from explainable_model.attribution.box_maps import is_pyramid, own_level_maps, weight_region
from explainable_model.attribution.boxes import BoxScore
from explainable_model.attribution.context import MethodContext, rounded_means
from explainable_model.attribution.network import DifferentiableNetwork
from explainable_model.attribution.noise import noisy_copies
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.postprocess import HALF, finish, resize_maps
from explainable_model.errors import LayerError
from explainable_model.explanation import Progress

AUGMENT_FACTORS = (1.0, 0.9, 1.1)
SMOOTH_SEED = 0


class Attribution(NamedTuple):
    """Logits ``(N, classes)``, class_idx ``(N,)``, activations and gradients ``(N, K, *spatial)``."""

    logits: Tensor
    class_idx: Tensor
    activations: Tensor
    gradients: Tensor


def explain(
    network: DifferentiableNetwork,
    plan: Plan,
    image: Tensor,
    class_idx: Tensor,
    inputs: Sequence[Tensor] = (),
    progress: Progress | None = None,
    signed: list[Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict and explain.

    Args:
        network: with the taps of ``plan``.
        plan: what is explained and how.
        image: ``(N, C, *spatial)``.
        class_idx: ``(N,)`` int64, or ``(N, top_k)``.
        inputs: the extra inputs.
        progress: called with the number of copies that are done, by methods that run many.
        signed: receives the map ``(N, k, *grid)`` before it is rectified, where one layer of one image makes it; of a
            method that adds up products, in host memory, then the sum of their magnitudes.

    Returns:
        ``logits``, ``class_idx`` shaped like the argument, and ``cam`` ``(N, *size)`` or ``(N, top_k, *size)``.
    """
    run = network.run(image, class_idx, inputs)
    first = MethodContext(network, plan, run, progress=progress)
    cam = _augmented(first) if plan.augment else _finished(first, signed)
    if plan.top_k is not None:
        return run.scores.logits, run.scores.class_idx, cam
    return run.scores.logits, run.scores.class_idx.squeeze(1), cam.squeeze(1)


def attribute(
    network: DifferentiableNetwork,
    plan: Plan,
    image: Tensor,
    class_idx: Tensor,
    inputs: Sequence[Tensor] = (),
    layer: int | str = 0,
) -> Attribution:
    """What a method works with: the activations and gradients of a layer, or the image and its gradient.

    Args:
        network: with the taps of ``plan``.
        plan: what is explained and how.
        image: ``(N, C, *spatial)``.
        class_idx: as of ``explain``; of several classes the first counts.
        inputs: the extra inputs.
        layer: position or name of one of the target layers.

    Raises:
        LayerError: no such layer, or a method that reads neither a layer nor the image.
    """
    names = list(plan.layers)
    if isinstance(layer, str) and layer in names:
        layer = names.index(layer)
    reads_image = plan.method.needs_image and not plan.method.needs_layer
    if not reads_image and (isinstance(layer, str) or not -len(names) <= layer < len(names)):
        known = f"its target layers are {', '.join(map(repr, names))}" if names else "it has no target layer"
        raise LayerError(f"layer is {layer!r}; expected one of the target layers of {plan.method.name!r}: {known}.")
    run = network.run(image, class_idx, inputs)
    classes = run.scores.class_idx[:, 0]
    if reads_image:
        context = MethodContext(network, plan, run)
        return Attribution(run.scores.logits, classes, image, context.image_gradients()[:, 0])
    context = MethodContext(network, plan, run, range(len(names))[int(layer)])
    return Attribution(run.scores.logits, classes, context.activations, context.gradients()[:, 0])


def with_rounded_means(
    network: DifferentiableNetwork, plan: Plan, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]
) -> Plan:
    """The plan for a graph, which knows whether the gradients of a layer average to rounding noise.

    Arguments as of ``explain``.
    """
    if not plan.method.averages_gradients:
        return plan
    first = MethodContext(network, plan, network.run(image, class_idx, inputs))
    layers = [replace(first, layer=number).gradients() for number in range(len(plan.layers))]
    return replace(plan, has_rounded_means=any(bool(rounded_means(gradients).any()) for gradients in layers))


def _finished(context: MethodContext, signed: list[Tensor] | None = None) -> Tensor:
    """``(N, k, *size)``: the map of all layers together, rectified, normalized and resized."""
    plan = context.plan
    maps = _layer_maps(context) if plan.smooth is None else _smoothed_maps(context, *plan.smooth)
    if isinstance(plan.target, BoxScore):
        cam = _maps_of_boxes(maps, context, plan.target)
    else:
        cam = maps[0] if len(maps) == 1 else _fused(maps, plan.fusion.fuse)
    logits = context.first.scores.logits
    if cam.dtype in HALF and logits.dtype not in HALF:  # a network that computes in half inside
        cam = cam.to(logits.dtype)
    if signed is not None and len(maps) == 1:
        signed.append(cam)
        if plan.method.adds_products and plan.smooth is None and cam.device.type == "cpu":  # where it is read
            at_layer = replace(context, layer=0)
            signed.append((at_layer.activations.unsqueeze(1) * at_layer.gradients()).abs().sum(2))
    return finish(cam, context.size, plan.postprocess)


def _layer_maps(context: MethodContext) -> list[Tensor]:
    """``(N, k, *grid)``, signed: the map of each layer, or that of the image."""
    plan, method = context.plan, context.plan.method
    contexts = [replace(context, layer=n) for n in range(len(plan.layers))] if method.needs_layer else [context]
    if method.needs_layer and not is_pyramid(plan.layers) and not torch.compiler.is_exporting():
        for at_layer in contexts:
            _refuse_one_position(at_layer)
    return [method.explain(at_layer, **plan.options) for at_layer in contexts]


def _smoothed_maps(context: MethodContext, copies: int, noise: float) -> list[Tensor]:
    """``(N, k, *grid)``, signed: the mean of each layer's maps over noisy copies of the image.

    Source: SmoothGrad, Smilkov et al. 2017, arXiv 1706.03825, for any method.
    """
    parts = []
    for images in noisy_copies(context, copies, noise, SMOOTH_SEED):
        maps = _layer_maps(replace(context.rerun(images), progress=None))
        parts.append([split(cam, images.shape[1]) for cam in maps])
    return [torch.cat(of_layer, 1).mean(1) for of_layer in zip(*parts, strict=True)]


def _maps_of_boxes(maps: Sequence[Tensor], context: MethodContext, target: BoxScore) -> Tensor:
    """``(N, k, *grid)``: the map of each box, on the level of the pyramid where the box lies."""
    plan, table = context.plan, context.first.scores.logits
    if is_pyramid(plan.layers):
        cam = own_level_maps(maps, table, signed=plan.postprocess.signed)
    else:
        cam = maps[0] if len(maps) == 1 else _fused(maps, plan.fusion.fuse)
    return weight_region(cam, table, context.size, target)


def _refuse_one_position(context: MethodContext) -> None:
    if all(length == 1 for length in context.activations.shape[2:]):
        raise LayerError(
            f"target_layer {context.plan.layers[context.layer]!r} has a map of one position for an image of "
            f"{tuple(context.size)}, so its map says nothing about places. Choose a layer before the pooling, or "
            "give a larger image."
        )


def _fused(maps: Sequence[Tensor], fuse: Callable[[Sequence[Tensor]], Tensor]) -> Tensor:
    """Maps of several layers as one, at the resolution of the finest."""
    finest = max((cam.shape[2:] for cam in maps), key=list)
    alike = [cam.relu() if cam.shape[2:] == finest else resize_maps(cam.relu(), finest) for cam in maps]
    return split(fuse([cam.flatten(0, 1) for cam in alike]), maps[0].shape[1])


def _augmented(context: MethodContext) -> Tensor:
    """Mean of the finished maps of six copies: scaled by 1, 0.9 and 1.1, each as it is and mirrored."""
    image = context.image
    scaled = torch.stack([image * factor for factor in AUGMENT_FACTORS], 1)
    copies = torch.cat([scaled, scaled.flip(-1)], 1)
    maps = split(_finished(context.rerun(copies)), copies.shape[1])
    straight, mirrored = maps.chunk(2, dim=1)
    return (straight + mirrored.flip(-1)).mean(1) / 2
