"""The layers of a network that have a spatial map, and how likely each is the one that a person would name."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explainable_model.attribution.frames import FoldedLayout
from explainable_model.attribution.layout import DOUBTFUL_DISTORTION, SpatialLayout, stride_distortion
from explainable_model.eager.record import OutputRecord

# Never the automatic choice: these only repeat, pool or rearrange what another layer made, or make
# queries, keys and values that mix one map with three meanings.
PASSIVE_TYPES = (nn.Linear, nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten)
PASSIVE_WORDS = ("Pool", "Dropout", "DropPath", "StochasticDepth", "Permute")


# A part of a name that stands for queries, keys or values alone: pool_v, to_q, convolution_projection_key.
PROJECTION = re.compile(r"(^|_)(q|k|v|query|key|value|queries|keys|values)(_|$)")
MIXERS = ("Attention", "Attn", "Transformer")
NORMS = ("LayerNorm", "RMSNorm")


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

    @property
    def channels(self) -> int:
        """How many channels a cell has."""
        return self.shape[1] if self.kind == "channels_first" else self.shape[-1]


def is_likely(candidate: LayerCandidate, record: OutputRecord) -> bool:
    """Whether the automatic choice may take a layer."""
    entry = record.outputs[candidate.name]
    if entry.is_attention or is_passive(record.model.get_submodule(candidate.name)):
        return False
    if candidate.kind == "tokens":
        return record.is_map(entry)
    is_square = entry.shape[-1] == entry.shape[-2]
    return not (is_square and record.is_token_table(entry))


def count_doubts(candidate: LayerCandidate, record: OutputRecord) -> int:
    """How doubtful the reading of an output is: layers with less doubt come first."""
    entry = record.outputs[candidate.name]
    if candidate.channels == 1:  # a mask, such as the prediction of a binary segmentation
        return 2
    if is_projection(record.model, candidate.name):
        return 1
    if record.is_map(entry):
        return 0
    is_uneven = stride_distortion(candidate.layout.grid, record.image_shape[2:]) > DOUBTFUL_DISTORTION
    return int(is_uneven or record.is_token_table(entry))


def is_projection(model: nn.Module, name: str) -> bool:
    """Whether a layer makes queries, keys or values inside attention."""
    parts = name.split(".")
    inside = [at for at in range(1, len(parts)) if is_mixer(model.get_submodule(".".join(parts[:at])))]
    return bool(inside) and any(PROJECTION.search(part) for part in parts[inside[0] :])


def is_mixer(module: nn.Module) -> bool:
    """Whether the name of a module's type tells that it mixes tokens."""
    return any(word in type(module).__name__ for word in MIXERS)


def may_hold_tokens(model: nn.Module) -> bool:
    """Whether a network may have layers of tokens: it has attention, or normalizes each token."""
    return mixes_tokens(model) or bool(list_norms(model))


def mixes_tokens(model: nn.Module) -> bool:
    """Whether a network has attention."""
    return any(is_mixer(module) for module in model.modules())


def list_norms(model: nn.Module) -> list[nn.Module]:
    """The layers that may normalize tokens, or the channels of maps."""
    return [module for module in model.modules() if any(word in type(module).__name__ for word in NORMS)]


def is_embedding(record: OutputRecord, name: str) -> bool:
    """Whether a layer only cuts the image into patches, before all attention of the network."""
    order, model = list(record.outputs), record.model
    at = order.index(name)
    weighted = [n for n in order[: at + 1] if isinstance(model.get_submodule(n), (nn.modules.conv._ConvNd, nn.Linear))]
    mixers = [is_mixer(model.get_submodule(other)) for other in order]
    parts = name.split(".")
    is_inside = any(is_mixer(model.get_submodule(".".join(parts[:count]))) for count in range(1, len(parts)))
    return len(weighted) <= 1 and not is_inside and not any(mixers[: at + 1]) and any(mixers[at + 1 :])


def find_coarser_branches(
    chosen: LayerCandidate, activations: Tensor, others: Sequence[tuple[LayerCandidate, Tensor]]
) -> list[LayerCandidate]:
    """The layers of parallel branches with fewer cells and no fewer channels, the coarsest first.

    Of the levels of a pyramid, each of which the prediction reads, the one that ran last is often the finest, and the
    least of the network stands behind it.

    Args:
        chosen: the layer that would be explained.
        activations: what it returned, with a graph.
        others: other layers, and what they returned, in the same graph.
    """

    def size(candidate: LayerCandidate) -> tuple[int, ...]:
        return candidate.layout.grid[-2:]

    coarser = [
        (candidate, tensor)
        for candidate, tensor in others
        if candidate.kind == chosen.kind != "tokens"
        and candidate.channels >= chosen.channels
        and len(size(candidate)) == len(size(chosen))
        and all(a < b for a, b in zip(size(candidate), size(chosen), strict=True))
    ]
    parallel = [
        candidate
        for candidate, tensor in coarser
        if not depends_on(activations, tensor) and not depends_on(tensor, activations)
    ]
    return sorted(parallel, key=lambda candidate: math.prod(size(candidate)))


def depends_on(result: Tensor, source: Tensor) -> bool:
    """Whether autograd's graph leads from one tensor to another."""
    if result.grad_fn is None:
        return False
    return torch.autograd.grad(result.sum(), [source], allow_unused=True, retain_graph=True)[0] is not None


def is_passive(layer: nn.Module) -> bool:
    """Whether a layer only repeats, pools or rearranges what another one made."""
    if isinstance(layer, PASSIVE_TYPES) or getattr(layer, "passive", False) is True:  # a node of an ONNX file
        return True
    name = type(layer).__name__.replace("PoolFormer", "")
    is_named_so = any(word in name for word in PASSIVE_WORDS)
    return is_named_so and not any(parameter.ndim > 1 for parameter in layer.parameters())


def list_candidates(record: OutputRecord, prediction: Tensor | None) -> list[LayerCandidate]:
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
        and not (entry.is_attention and len(entry.shape) > 3 and may_hold_tokens(record.model))
    ]


def reaches_the_map(gradients: Tensor) -> bool:
    """Whether there is a gradient, and in more channels of an image than the one of its class."""
    channels = (gradients.flatten(2).abs().sum(2) > 0).sum(1)
    return int(channels.max()) > min(1, gradients.shape[1] - 1)
