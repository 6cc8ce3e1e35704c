"""The forward hook that takes the target layer's activations from the network and hands them back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explainable_model.attribution.containers import Change, Path, first_tensor, named_tensors, replace_tensor
from explainable_model.attribution.plan import IMAGE_LAYER
from explainable_model.attribution.targets import Scores
from explainable_model.eager.kept_tensors import without_graphs_left


class LayerTap:
    """A forward hook that is there only while somebody listens, and sees only the calls of its own thread.

    The first listener puts the hook on the layer and the last one takes it off, so a network at rest carries no hook
    of this library; each thread sees the outputs of its own calls alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._listeners = 0
        self._handle: RemovableHandle | None = None

    def __reduce__(self) -> tuple[type["LayerTap"], tuple[()]]:
        return LayerTap, ()  # a copy of the module (deepcopy, pickle) gets a tap of its own

    @contextmanager
    def listen(self, layer: nn.Module, change: Change) -> Iterator[None]:
        """Let ``change`` see, and exchange, each output of ``layer`` in this thread."""
        with self._lock:
            if self._listeners == 0:
                self._handle = layer.register_forward_hook(self._hook)
            self._listeners += 1
        previous = getattr(self._local, "change", None)
        self._local.change = change
        try:
            yield
        finally:
            self._local.change = previous
            with self._lock:
                self._listeners -= 1
                if self._listeners == 0 and self._handle is not None:
                    self._handle.remove()
                    self._handle = None

    def _hook(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        change: Change | None = getattr(self._local, "change", None)
        activations = first_tensor(output)
        if change is None or activations is None:
            return None
        changed = change(activations, inputs)
        output = replace_tensor(output, activations, changed)
        return change.follow(output, changed) if isinstance(change, ActivationCapture) else output


class ActivationCapture:
    """Turns one output of a layer into the leaf of a new graph, so that autograd sees only the tail.

    An output that already hangs on a graph (that of a tap further up) stays on it. What the layer itself computed from
    its output before it returned does not count: the gradient is taken through what is handed on.

    Attributes:
        activations: what is captured, the first tensor of the output; ``None`` before the layer ran.
        others: what else of the output may be a map, by its place.

    Args:
        call: which call of the layer is captured, counted from 0; ``-1`` or ``None`` for the last.
    """

    def __init__(self, call: int | None = None) -> None:
        self.activations: Tensor | None = None
        self.others: dict[Path, Tensor] = {}
        self.calls = 0
        self._call = -1 if call is None else call

    def __call__(self, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        self.calls += 1
        if self._call not in (-1, self.calls - 1):
            return output
        if output.requires_grad:
            self.activations = output.clone()
        else:
            # The layer may have returned its input, or a view of it, to which others may write.
            kept = output.detach()
            self.activations = (kept.clone() if _shares_storage(output, inputs) else kept).requires_grad_()
        torch.set_grad_enabled(True)
        # In-place operations after the layer must not overwrite what was captured.
        return self.activations.clone()

    def follow(self, output: Any, first: Tensor) -> Any:
        """Let autograd see the other maps of an output, too, whose first tensor may have been captured."""
        if self._call not in (-1, self.calls - 1):
            return output
        self.others = {}
        for path, tensor in list(named_tensors(output)):
            if tensor is not first and _may_be_a_map(tensor, first):
                kept = tensor.clone() if tensor.requires_grad else tensor.detach().clone().requires_grad_()
                self.others[path] = kept
                output = replace_tensor(output, tensor, kept.clone())
        return output

    def find_read(self, score: Tensor) -> list[Path]:
        """The places of the other maps on which a score depends, where it depends on the captured one as well."""
        if not self.others or self.activations is None or not score.requires_grad:
            return []
        maps = [self.activations, *self.others.values()]
        first, *rest = torch.autograd.grad([score], maps, retain_graph=True, allow_unused=True)
        return [] if first is None else [p for p, grad in zip(self.others, rest, strict=True) if grad is not None]


class ActivationShift:
    """Adds a tensor to one output of a layer.

    Args:
        call: which call of the layer, counted from 0.
        change: what is added.
    """

    def __init__(self, call: int, change: Tensor) -> None:
        self._left, self._change = call, change

    def __call__(self, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        self._left -= 1
        return output + self._change if self._left == -1 else output


def _may_be_a_map(tensor: Tensor, first: Tensor) -> bool:
    """Whether a tensor beside a map may be one; the last state of an LSTM beside all its steps is none."""
    has_rank = tensor.ndim == first.ndim > 2 and tensor.shape[0] == first.shape[0]
    return has_rank and (tensor.ndim > 3 or tensor.shape[1] == first.shape[1])


def _shares_storage(output: Tensor, inputs: tuple[Any, ...]) -> bool:
    return any(
        isinstance(value, Tensor)
        and value.device == output.device
        and value.layout is torch.strided
        and value.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
        for value in inputs
    )


def run_with_tail(
    model: nn.Module,
    names: Sequence[str],
    taps: Sequence[LayerTap],
    image: Tensor,
    score: Callable[[Tensor], Scores],
    call: int | None = None,
) -> tuple[Scores, list[ActivationCapture]]:
    """Run a network so that autograd keeps the graph of what follows its first tap.

    What comes before the first tap runs without a graph. Where a layer lies under a ``no_grad`` of the network itself,
    the tail loses its graph as well; then the network runs once more, all of it with a graph. What the network keeps
    of the run is detached.

    Args:
        model: the network.
        names: of the layers that are captured; the first may stand for the image.
        taps: one for each of these layers.
        image: ``(N, C, *spatial)``.
        score: runs the network on the image and scores its output.
        call: see ``ActivationCapture``.

    Returns:
        The scores and a capture for each name.
    """
    for grad_mode in (torch.no_grad(), torch.enable_grad()):
        captures = [ActivationCapture(None if name == IMAGE_LAYER else call) for name in names]
        with without_graphs_left(model), grad_mode, ExitStack() as stack:
            layers = [pair for pair in zip(names, captures, strict=True) if pair[0] != IMAGE_LAYER]
            for (name, capture), tap in zip(layers, taps, strict=True):
                stack.enter_context(tap.listen(model.get_submodule(name), capture))
            # The network may write to its image.
            seen = captures[0](image, (image,)) if IMAGE_LAYER in names else image.clone()
            scores = score(seen)
        if scores.values.requires_grad:
            break
    return scores, captures
