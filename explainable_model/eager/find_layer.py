"""The layers of a network that can be explained, and the one to choose by default."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.layout import DOUBTFUL_DISTORTION, SpatialLayout, _distortion, find_layout
from explainable_model.attribution.scores import Select, class_scores, find_logits, one_hot
from explainable_model.eager.autograd import score_gradient
from explainable_model.eager.tap import ActivationCapture, LayerTap
from explainable_model.errors import LayerError, ModelError

# The automatic choice looks at this many images of a batch: two, which tell a batch from a table of one row.
FEW = 2

# It asks for the gradients of the 8 likeliest layers first, then of the 64 after them, then of the rest: each time
# costs a forward, whose graph reaches back to the earliest of those asked.
AT_ONCE = (8, 64)

# Never the automatic choice: they only repeat, pool or rearrange what another layer made, or make
# queries, keys and values that mix one map with three meanings.
PASSIVE_TYPES = (nn.Linear, nn.Identity, nn.Dropout, nn.Flatten, nn.Unflatten)
PASSIVE_WORDS = ("Pool", "Dropout", "DropPath", "StochasticDepth", "Permute")


@dataclass(frozen=True)
class LayerCandidate:
    """A layer whose output has a spatial map, as one example showed it."""

    name: str
    type: str
    shape: tuple[int, ...]
    layout: SpatialLayout


def resolve_layer(model: nn.Module, target_layer: str | nn.Module) -> str:
    """The name, inside ``model``, of a layer given by name or as a module of it.

    Raises:
        LayerError: no such layer.
    """
    names: dict[int, str] = {id(module): name for name, module in model.named_modules(remove_duplicate=False)}
    if isinstance(target_layer, nn.Module):
        name = names.get(id(target_layer))
        if name:
            return name
        raise LayerError(
            f"target_layer is a {type(target_layer).__name__} that is not a module of "
            f"{type(model).__name__}; expected one of its submodules or their names."
        )
    known = set(names.values()) - {""}
    if target_layer in known:
        return target_layer
    raise LayerError(f"target_layer {target_layer!r} is not in {type(model).__name__}. {_suggest(target_layer, known)}")


def _suggest(wrong: str, known: set[str]) -> str:
    import difflib

    near = difflib.get_close_matches(wrong, known, n=3)
    top = sorted(name for name in known if "." not in name)
    hint = f"Did you mean {', '.join(map(repr, near))}? " if near else ""
    listing = "find_layers(model, image), or the command explainable-model layers, lists those with a spatial map"
    return f"{hint}Its top-level layers are {', '.join(top)}; {listing}."


def find_layers(model: nn.Module, image: Tensor) -> list[LayerCandidate]:
    """Every layer whose output has a spatial map, in the order in which they ran.

    A layer that ran several times is listed where it ran last. Layers without a gradient, which the
    automatic choice passes over, are listed as well.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an example that the network accepts.
    """
    with torch.inference_mode(False), torch.no_grad():
        return _probe(model, image.detach().clone())


def default_layer(model: nn.Module, image: Tensor, *inputs: Tensor, output: Select = None) -> str:
    """The last layer with a spatial map all of which the prediction can depend on.

    The gradient of the predicted class decides: the patch tokens after a transformer's last
    attention get none where only the class token is read, so the choice there is the last block's
    first norm; a layer that already is the class map (one channel per class) is passed over too.
    The first two images of a batch decide, where they can.

    Args:
        model: the network, in evaluation mode.
        image: ``(N, C, *spatial)``, an example that the network accepts.
        inputs: what else the network takes.
        output: which part of the network's output is the prediction.

    Raises:
        LayerError: no layer has a spatial map with a gradient.
    """
    layer, candidates = None, 0
    if image.shape[0] > FEW:  # each look costs a forward, and memory
        with suppress(RuntimeError, ValueError, IndexError, ModelError):  # it may take this batch size alone
            layer, _ = _default_layer(model, image[:FEW], *(each[:FEW] for each in inputs), output=output)
    if layer is None:
        layer, candidates = _default_layer(model, image, *inputs, output=output)
    if layer is not None:
        return layer
    raise LayerError(
        f"No layer of {type(model).__name__} has a spatial map that its prediction depends on, for an image "
        f"of shape {tuple(image.shape)} ({candidates} with a map; a classifier whose weights are all zero, as "
        "some are before training, depends on none). Name one with target_layer=, with reshape_transform= "
        "where its output is not a map as it stands."
    )


def _default_layer(model: nn.Module, image: Tensor, *inputs: Tensor, output: Select = None) -> tuple[str | None, int]:
    """The layer, or ``None``, and how many have a spatial map."""
    with torch.inference_mode(False):
        image = image.detach()
        with torch.no_grad():
            found = _probe(model, image.clone(), *inputs, output=output)
        likely = [each for each in reversed(found) if not _is_passive(model.get_submodule(each.name))]
        likely.sort(key=lambda candidate: _is_doubtful(candidate, image))
        begin = 0
        for count in (*AT_ONCE, len(likely)):
            layer = _first_with_gradient(model, likely[begin : begin + count], image, *inputs, output=output)
            if layer is not None:
                return layer, len(found)
            begin += count
    return None, len(found)


def _first_with_gradient(
    model: nn.Module, candidates: Sequence[LayerCandidate], image: Tensor, *inputs: Tensor, output: Select
) -> str | None:
    """The first of these whose map has a gradient; only what follows them is differentiated."""
    if not candidates:
        return None
    captures = [ActivationCapture() for _ in candidates]
    for grad_mode in (torch.no_grad(), torch.enable_grad()):  # a layer under a no_grad of the network's loses its graph
        with grad_mode, ExitStack() as stack:
            for candidate, capture in zip(candidates, captures, strict=True):
                stack.enter_context(LayerTap().listen(model.get_submodule(candidate.name), capture))
            logits = find_logits(model(image.clone(), *inputs), output)
        if logits.requires_grad:
            break
    with torch.enable_grad():
        scores = class_scores(logits, image.shape[0])
        seed = one_hot(scores.argmax(1), scores)
        for candidate, capture in zip(candidates, captures, strict=True):
            if capture.activations is None or not scores.requires_grad:
                continue
            (gradients,) = score_gradient(logits, scores, seed, [capture.activations], keep_graph=True)
            if gradients is not None and _reaches_the_map(candidate.layout.to_map(gradients)):
                return candidate.name
    return None


def _reaches_the_map(gradients: Tensor) -> bool:
    """Whether there is a gradient, and in more channels of an image than the one of its class."""
    channels = (gradients.flatten(2).abs().sum(2) > 0).sum(1)
    return int(channels.max()) > min(1, gradients.shape[1] - 1)


def _is_doubtful(candidate: LayerCandidate, image: Tensor) -> bool:
    return _distortion(candidate.layout.grid, image.shape[2:]) > DOUBTFUL_DISTORTION


def _is_passive(layer: nn.Module) -> bool:
    name = type(layer).__name__
    return isinstance(layer, PASSIVE_TYPES) or any(word in name for word in PASSIVE_WORDS)


def _probe(model: nn.Module, image: Tensor, *inputs: Tensor, output: Select = None) -> list[LayerCandidate]:
    """Run once and list, in the order of completion, each layer whose output is a spatial map of its own."""
    record = _Record()
    with record.listening(model):
        logits = find_logits(model(image, *inputs), output)
    # Several names may stand for one tensor: a container ends after its last part, and counts.
    outermost = {
        tensor: name for name, (tensor, _) in record.outputs.items() if not _is_passive(model.get_submodule(name))
    }
    found = []
    for name, (tensor, shape) in record.outputs.items():
        layout = find_layout(shape, image.shape)
        own = outermost.get(tensor, name) == name and shape[0] == image.shape[0]
        if layout is not None and math.prod(layout.grid) > 1 and own and tensor != record.number(logits):
            found.append(LayerCandidate(name, type(model.get_submodule(name)).__name__, shape, layout))
    return found


class _Record:
    """What the layers of a network returned. It keeps no tensor, so that the run needs no more memory than another.

    Attributes:
        outputs: by layer, in the order of their last calls, the number of its first tensor, and the shape.
    """

    def __init__(self) -> None:
        self.outputs: dict[str, tuple[int, tuple[int, ...]]] = {}
        self._numbers = WeakIdKeyDictionary()  # a tensor that is gone does not lend its identity to another
        self._count = 0
        self._thread = threading.get_ident()  # the network may be running in others at the same time

    def number(self, tensor: Tensor) -> int:
        """The same for the same tensor."""
        if tensor not in self._numbers:
            self._numbers[tensor] = self._count
            self._count += 1
        return int(self._numbers[tensor])

    @contextmanager
    def listening(self, model: nn.Module) -> Iterator[None]:
        """Record what the layers return."""
        states: dict[int, int] = {}  # how often each output had been written to when it was last seen

        def recorder(name: str) -> Callable[..., None]:
            def record(module: nn.Module, inputs: Any, output: Any) -> None:
                tensors = list(floating_tensors(output))
                if not tensors or threading.get_ident() != self._thread:
                    return
                tensor, numbers = tensors[0], [self.number(each) for each in tensors]
                self.outputs.pop(name, None)  # keep the order of the last calls
                # What is only handed on is another layer's output; an in-place operation makes its own of it.
                handed_on = any(tensor is value for value in inputs)
                # A backbone returns the map of its last layer and what it pooled from it; the prediction may depend on
                # the latter alone.
                known = {number for number, _ in self.outputs.values()}
                handed_on |= len(tensors) > 1 and numbers[0] in known
                if not handed_on or states.get(numbers[0]) != tensor._version:
                    self.outputs[name] = numbers[0], tuple(tensor.shape)
                states[numbers[0]] = tensor._version

            return record

        with ExitStack() as stack:
            for name, module in model.named_modules():
                if name:
                    stack.enter_context(module.register_forward_hook(recorder(name)))
            yield
