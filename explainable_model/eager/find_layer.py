"""The layers of a network that can be explained, and the one to choose by default."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import Caller, Forward, as_caller
from explainable_model.attribution.frames import FoldedLayout, frames_hint
from explainable_model.attribution.layout import DOUBTFUL_DISTORTION, SpatialLayout, stride_distortion
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.prediction import Select, find_prediction
from explainable_model.attribution.scores import one_hot
from explainable_model.attribution.targets import ClassScore, Difference, Target
from explainable_model.eager.autograd import score_gradient
from explainable_model.eager.checks import check_image_for, explained_shape_errors
from explainable_model.eager.example import Example
from explainable_model.eager.hooked import integer_hint, is_in_place_refusal
from explainable_model.eager.record import OutputRecord
from explainable_model.eager.tap import LayerTap, run_with_tail
from explainable_model.eager.token_places import check_places
from explainable_model.errors import LayerError, ModelError

# The automatic choice looks at this many images of a batch: two, which tell a batch from a table of one row.
FEW_IMAGES = 2

# It takes the gradients of the 8 likeliest layers first, then of the next 64, then of the rest. Each group costs a
# forward, whose graph reaches back to the earliest layer of the group.
GROUP_SIZES = (8, 64)

# Never the automatic choice: these only repeat, pool or rearrange what another layer made, or make
# queries, keys and values that mix one map with three meanings.
PASSIVE_TYPES = (nn.Linear, nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten)
PASSIVE_WORDS = ("Pool", "Dropout", "DropPath", "StochasticDepth", "Permute")


@dataclass(frozen=True)
class LayerCandidate:
    """A layer whose output has a spatial map, as one example showed it.

    Attributes:
        name: of the layer.
        type: class name of the layer.
        shape: of its output.
        layout: how the output is arranged.
        calls: how often the layer ran; ``call=`` chooses the one to explain.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    layout: SpatialLayout | FoldedLayout
    calls: int = 1

    @property
    def kind(self) -> str:
        """``channels_first``, ``channels_last`` or ``tokens``."""
        return (self.layout.layout if isinstance(self.layout, FoldedLayout) else self.layout).kind


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
        return _candidates(record, prediction)


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
    if target is None or isinstance(target, Difference):  # of the predicted class and itself nothing would be left
        target = ClassScore()
    if image.shape[0] > FEW_IMAGES:  # each look costs a forward, and memory
        with suppress(RuntimeError, ValueError, IndexError, ModelError):  # it may take this batch size alone
            few = (image[:FEW_IMAGES], *(tensor[:FEW_IMAGES] for tensor in inputs))
            if layer := _choose_layer(Example(model, few, output, target, frames, forward))[0]:
                return layer
    layer, candidates = _choose_layer(Example(model, (image, *inputs), output, target, frames, forward))
    if layer is not None:
        return layer
    raise LayerError(
        f"No layer of {type(model).__name__} has a spatial map that its prediction depends on, for an image "
        f"of shape {tuple(image.shape)} ({len(candidates)} with a map; a classifier whose weights are all zero, as "
        "some are before training, depends on none). Name one with target_layer=, with reshape_transform= "
        "where its output is not a map as it stands."
        f"{frames_hint(image.ndim, frames)}{_tokens_hint(candidates)}{integer_hint(model)}"
    )


def planned_layer(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> str:
    """The default layer for what a plan explains; arguments and errors as ``default_layer``."""
    return default_layer(
        model, image, *inputs, output=plan.output, target=plan.target, frames=plan.frames, forward=plan.forward
    )


def _tokens_hint(candidates: Sequence[LayerCandidate]) -> str:
    last = next((candidate for candidate in reversed(candidates) if candidate.kind == "tokens"), None)
    return "" if last is None else (
        f" {last.name!r} returns {last.shape[1]} tokens, and no layer shows that they are the patches of a grid of "
        f"{' x '.join(map(str, last.layout.grid))}. If they are, name it or one before it."
    )  # fmt: skip


def _choose_layer(example: Example) -> tuple[str | None, list[LayerCandidate]]:
    """The layer, or ``None``, and the layers that have a spatial map."""
    with torch.inference_mode(False):
        image = example.image.detach()
        example = replace(example, arguments=(image, *example.arguments[1:]))
        with torch.no_grad():
            record, output = record_outputs(example, image.clone())
            candidates = _candidates(record, example.score(output).logits)
        likely = [candidate for candidate in reversed(candidates) if _is_likely(candidate, record)]
        likely.sort(key=lambda candidate: _doubt(candidate, record))
        begin = 0
        for count in (*GROUP_SIZES, len(likely)):
            layer = _try_first_with_gradient(example, likely[begin : begin + count])
            if layer is not None:
                return layer, candidates
            begin += count
    return None, candidates


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
    """The first of these whose map has a gradient; only what follows them is differentiated."""
    if not candidates:
        return None
    names, taps = [candidate.name for candidate in candidates], [LayerTap() for _ in candidates]
    scores, captures = run_with_tail(
        example.model, names, taps, example.image, lambda image: example.score(example.run(image))
    )
    if not scores.values.requires_grad:
        return None
    with torch.enable_grad():
        seed = one_hot(scores.columns[:, 0], scores.values)
        for candidate, capture in zip(candidates, captures, strict=True):
            if capture.activations is None:
                continue
            (gradients,) = score_gradient(
                scores.logits,
                scores.values,
                seed,
                [capture.activations],
                through_final=not example.target.linear,
                keep_graph=True,
            )
            if gradients is not None and _reaches_the_map(candidate.layout.to_map(gradients)):
                with suppress(LayerError):
                    check_layer(example, candidate.name, candidate.layout)
                    return candidate.name
    return None


def check_layer(example: Example, name: str, layout: SpatialLayout | FoldedLayout, needs_proof: bool = True) -> None:
    """Refuse a layer whose tokens are no places of the image, see ``check_places``."""
    if isinstance(layout, FoldedLayout) or example.frames is not None:
        return

    def run(images: Tensor, copies: int) -> Any:
        others = (tensor[:1].expand(copies, *tensor.shape[1:]) for tensor in example.arguments[1:])
        return replace(example, arguments=(images, *others)).run(images)

    with torch.no_grad():
        check_places(example.model, name, layout, example.image.detach(), run, needs_proof)


def _reaches_the_map(gradients: Tensor) -> bool:
    """Whether there is a gradient, and in more channels of an image than the one of its class."""
    channels = (gradients.flatten(2).abs().sum(2) > 0).sum(1)
    return int(channels.max()) > min(1, gradients.shape[1] - 1)


def _is_likely(candidate: LayerCandidate, record: OutputRecord) -> bool:
    """Whether the automatic choice may take a layer."""
    entry = record.outputs[candidate.name]
    if entry.is_attention or is_passive(record.model.get_submodule(candidate.name)):
        return False
    if candidate.kind == "tokens":
        return record.is_map(entry)
    is_square = entry.shape[-1] == entry.shape[-2]
    return not (is_square and record.is_token_table(entry))


def _doubt(candidate: LayerCandidate, record: OutputRecord) -> int:
    """How doubtful the reading of an output is: layers with less doubt come first."""
    entry = record.outputs[candidate.name]
    channels = entry.shape[1] if candidate.kind == "channels_first" else entry.shape[-1]
    if channels == 1:  # a mask, such as the prediction of a binary segmentation
        return 2
    if record.is_map(entry):
        return 0
    is_uneven = stride_distortion(candidate.layout.grid, record.image_shape[2:]) > DOUBTFUL_DISTORTION
    return int(is_uneven or record.is_token_table(entry))


def is_passive(layer: nn.Module) -> bool:
    """Whether a layer only repeats, pools or rearranges what another one made."""
    name = type(layer).__name__
    if getattr(layer, "passive", False) is True:  # a node of an ONNX file
        return True
    return isinstance(layer, PASSIVE_TYPES) or any(word in name for word in PASSIVE_WORDS)


def record_outputs(example: Example, image: Tensor) -> tuple[OutputRecord, Any]:
    """What the layers and the network returned in one run."""
    record = OutputRecord(example.model, image, example.frames)
    with record.listening():
        output = example.run(image)
    return record, output


def _candidates(record: OutputRecord, prediction: Tensor | None) -> list[LayerCandidate]:
    """In the order of completion, each layer whose output is a spatial map of its own, and not the prediction."""
    number = None if prediction is None else record.number(prediction)
    # Several names may stand for one tensor: a container ends after its last part, and counts.
    outermost = {
        entry.number: name for name, entry in record.outputs.items() if not is_passive(record.model.get_submodule(name))
    }
    return [
        LayerCandidate(name, type(record.model.get_submodule(name)).__name__, entry.shape, entry.layout, entry.calls)
        for name, entry in record.outputs.items()
        if entry.layout is not None
        and math.prod(entry.layout.grid) > 1
        and outermost.get(entry.number, name) == name
        and entry.number != number
    ]
