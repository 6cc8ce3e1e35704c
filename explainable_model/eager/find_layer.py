"""The layers of a network that can be explained, and the one to choose by default."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import Caller, Forward, as_caller
from explainable_model.attribution.frames import FoldedLayout, frames_hint
from explainable_model.attribution.layout import SpatialLayout
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.prediction import Select, find_prediction
from explainable_model.attribution.scores import one_hot
from explainable_model.attribution.targets import ClassScore, Difference, Target
from explainable_model.eager.autograd import score_gradient
from explainable_model.eager.checks import check_image_for, explained_shape_errors
from explainable_model.eager.example import Example
from explainable_model.eager.hooked import integer_hint, is_in_place_refusal
from explainable_model.eager.image_dependence import find_blind_layers
from explainable_model.eager.layer_candidates import (
    LayerCandidate,
    count_doubts,
    find_coarser_branches,
    is_embedding,
    is_likely,
    list_candidates,
    reaches_the_map,
)
from explainable_model.eager.parallel_networks import describe_layers, find_parallel_layers
from explainable_model.eager.record import OutputRecord
from explainable_model.eager.tap import LayerTap, run_with_tail
from explainable_model.eager.token_places import check_places
from explainable_model.errors import LayerError, ModelError, OneNetworkWarning, ShallowLayerWarning

# The automatic choice looks at this many images of a batch: two, which tell a batch from a table of one row.
FEW_IMAGES = 2

# It takes the gradients of the 8 likeliest layers first, then of the next 64, then of the rest. Each group costs a
# forward, whose graph reaches back to the earliest layer of the group.
GROUP_SIZES = (8, 64)


def find_layers(
    model: nn.Module, image: Tensor, *inputs: Tensor, frames: int | None = None, forward: Forward = None
) -> list[LayerCandidate]:
    """Every layer whose output has a spatial map, in the order in which they ran.

    A layer that ran several times is listed where it ran last, with the number of its ``calls``. Layers that the
    automatic choice passes over, such as those without a gradient, are listed as well.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an example that the network accepts.
        inputs: what else the network takes.
        frames: the axis of the image's frames, where it has some.
        forward: how the network is called, see ``ExplainableModel``.

    Raises:
        InputError: an image that the network cannot take.
    """
    check_image_for(model, image)
    with torch.inference_mode(False), torch.no_grad(), explained_shape_errors(model, image):
        example = Example(model, (image.detach(), *inputs), frames=frames, forward=as_caller(forward))
        record, output = record_outputs(example, image.detach().clone())
        prediction = None
        with suppress(ModelError):  # the layers are the same, whatever is explained of the output
            prediction = find_prediction(output).tensor
        return list_candidates(record, prediction)


def default_layer(
    model: nn.Module,
    image: Tensor,
    *inputs: Tensor,
    output: Select = None,
    target: Target | None = None,
    frames: int | None = None,
    forward: Caller = None,
) -> str:
    """The last layer with a spatial map on all of which the prediction can depend.

    The gradient of the predicted class decides: the patch tokens after a transformer's last
    attention get none where only the class token is read, so the choice there is the last block's
    first norm; a layer that already is the class map (one channel per class) is passed over too.
    Tokens count only where the run shows a map with their grid, as the patch embedding makes one; attention
    probabilities never count. The first two images of a batch decide, where they can.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an example that the network accepts.
        inputs: what else the network takes, then what the target takes.
        output: which part of the network's output is the prediction.
        target: what is explained; ``None`` for the class.
        frames: the axis of the image's frames, where it has some.
        forward: how the network is called.

    Raises:
        LayerError: no layer has a spatial map with a gradient.
        ModelError: the network's output is not what the target needs.
    """
    return _find_default(Example(model, (image, *inputs), output, target or ClassScore(), frames, forward))[0]


def _find_default(example: Example) -> tuple[str, OutputRecord]:
    """See ``default_layer``."""
    model, image = example.model, example.image
    if isinstance(example.target, Difference):  # of the predicted class and itself nothing would be left
        example = replace(example, target=ClassScore())
    if image.shape[0] > FEW_IMAGES:  # each look costs a forward, and memory
        with suppress(RuntimeError, ValueError, IndexError, ModelError):  # it may take this batch size alone
            few = replace(example, arguments=tuple(tensor[:FEW_IMAGES] for tensor in example.arguments))
            layer, _, record = _choose_layer(few)
            if layer:
                return layer, record
    layer, candidates, record = _choose_layer(example)
    if layer is not None:
        return layer, record
    frames = example.frames
    raise LayerError(
        f"No layer of {type(model).__name__} has a spatial map that its prediction depends on, for an image "
        f"of shape {tuple(image.shape)} ({len(candidates)} with a map; a classifier whose weights are all zero, as "
        f"some are before training, depends on none{_blank_hint(image)}). Name one with target_layer=, with "
        "reshape_transform= "
        "where its output is not a map as it stands."
        f"{frames_hint(image.ndim, frames)}{_tokens_hint(candidates)}{integer_hint(model)}"
    )


def _blank_hint(image: Tensor) -> str:
    """An example of zeros may leave no unit of a network on, and then nothing depends on anything."""
    blank = bool((image == image.flatten()[:1]).all())
    return "; all values of the image are equal, which may turn every ReLU off: give a real image" if blank else ""


def planned_layer(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> str:
    """The default layer for what a plan explains; arguments and errors as ``default_layer``.

    A ``ShallowLayerWarning`` tells that it is the patch embedding of a transformer, whose later tokens nobody can read.
    """
    target = plan.target or ClassScore()
    example = Example(model, (image, *inputs), plan.output, target, plan.frames, plan.forward)
    layer, record = _find_default(example)
    others = find_parallel_layers(example, record, layer) if plan.frames is None else []
    if others:
        warnings.warn(
            f"The automatic choice is {layer!r}, and {type(model).__name__} has {len(others) + 1} networks side by "
            f"side that see the image: the map shows one of them. Name a layer of each, "
            f"target_layer={describe_layers([*others, layer])}, whose maps are averaged, or the one to explain.",
            OneNetworkWarning,
            stacklevel=4,
        )
    if is_embedding(record, layer):
        warnings.warn(
            f"The automatic choice is {layer!r}, which cuts the image into patches before all attention of "
            f"{type(model).__name__}: of no later layer the output is known to be a grid, so the map shows little of "
            "what the network computes. Name a later layer; where its tokens are patches in rows, say so with "
            "reshape_transform=lambda tokens: tokens.mT.unflatten(2, grid).",
            ShallowLayerWarning,
            stacklevel=4,
        )
    return layer


def _tokens_hint(candidates: Sequence[LayerCandidate]) -> str:
    last = next((candidate for candidate in reversed(candidates) if candidate.kind == "tokens"), None)
    return "" if last is None else (
        f" {last.name!r} returns {last.shape[1]} tokens, and no layer shows that they are the patches of a grid of "
        f"{' x '.join(map(str, last.layout.grid))}. If they are, name it or one before it."
    )  # fmt: skip


def _choose_layer(example: Example) -> tuple[str | None, list[LayerCandidate], OutputRecord]:
    """The layer, or ``None``, the layers that have a spatial map, and what all returned."""
    with torch.inference_mode(False):
        image = example.image.detach()
        example = replace(example, arguments=(image, *example.arguments[1:]))
        with torch.no_grad():
            record, output = record_outputs(example, image.clone())
            candidates = list_candidates(record, example.score(output).logits)
        likely = [candidate for candidate in reversed(candidates) if is_likely(candidate, record)]
        likely.sort(key=lambda candidate: count_doubts(candidate, record))
        begin = 0
        for count in (*GROUP_SIZES, len(likely)):
            layer = _try_first_with_gradient(example, likely[begin : begin + count])
            if layer is not None:
                return layer, candidates, record
            begin += count
    return None, candidates, record


def _try_first_with_gradient(example: Example, candidates: Sequence[LayerCandidate]) -> str | None:
    """See ``_first_with_gradient``; an operation in place that autograd refuses is named as the reason."""
    try:
        return _first_with_gradient(example, candidates)
    except RuntimeError as error:
        if not is_in_place_refusal(error):
            raise
        raise LayerError(
            f"{type(example.model).__name__} writes in place to a value that its gradient needs, so the automatic "
            "choice cannot compare its layers. Name one with target_layer=; it is explained through the exported graph."
        ) from error


def _first_with_gradient(example: Example, candidates: Sequence[LayerCandidate]) -> str | None:
    """The first of these that sees the image and has a gradient; only what follows them is differentiated."""
    if not candidates:
        return None
    names, taps = [candidate.name for candidate in candidates], [LayerTap() for _ in candidates]
    scores, captures = run_with_tail(
        example.model, names, taps, example.image, lambda image: example.score(example.run(image))
    )
    if not scores.values.requires_grad:
        return None
    seed = one_hot(scores.columns[:, 0], scores.values)
    through_final = not example.target.linear
    found = [(c, capture.activations) for c, capture in zip(candidates, captures, strict=True)]
    ran = [(candidate, tensor) for candidate, tensor in found if tensor is not None]

    # Of a layer with several calls, call= may choose one that sees the image.
    once = {candidate.name: tensor for candidate, tensor in ran if candidate.calls == 1}
    find_blind = cache(lambda: find_blind_layers(example, once))
    containers = {c.name: capture for c, capture in zip(candidates, captures, strict=True) if capture.others}

    def is_explained(candidate: LayerCandidate, tensor: Tensor) -> bool:
        if candidate.name in containers and containers[candidate.name].find_read(scores.first.sum()):
            return False  # several maps, of which the layers inside make one each
        (gradients,) = score_gradient(
            scores.logits, scores.values, seed, [tensor], through_final=through_final, keep_graph=True
        )
        if gradients is None or not reaches_the_map(candidate.layout.to_map(gradients)):
            return False
        if candidate.name in find_blind():
            return False
        with suppress(LayerError):
            check_layer(example, candidate.name, candidate.layout, is_map=True)
            return True
        return False

    with torch.enable_grad():
        tensors = {candidate.name: tensor for candidate, tensor in ran}
        for index, (candidate, tensor) in enumerate(ran):
            if is_explained(candidate, tensor):
                branches = find_coarser_branches(candidate, tensor, ran[index + 1 :])
                better = (branch for branch in branches if is_explained(branch, tensors[branch.name]))
                return next(better, candidate).name
    return None


def check_layer(
    example: Example,
    name: str,
    layout: SpatialLayout | FoldedLayout,
    *,
    is_map: bool = False,
    needs_proof: bool = True,
) -> str | None:
    """Refuse a layer whose tokens are no places of the image, or return a doubt, see ``check_places``."""
    if isinstance(layout, FoldedLayout) or example.frames is not None:
        return None

    image, run = example.image.detach(), partial(run_copies, example)
    with torch.no_grad():
        return check_places(example.model, name, layout, image, run, is_map=is_map, needs_proof=needs_proof)


def run_copies(example: Example, images: Tensor, copies: int) -> Any:
    """What the network returns for changed copies of the first image, beside its other inputs."""
    others = (tensor[:1].expand(copies, *tensor.shape[1:]) for tensor in example.arguments[1:])
    return replace(example, arguments=(images, *others)).run(images)


def record_outputs(example: Example, image: Tensor) -> tuple[OutputRecord, Any]:
    """What the layers and the network returned in one run."""
    record = OutputRecord(example.model, image, example.frames)
    with record.listening():
        output = example.run(image)
    return record, output
