"""The forward hook: where the target layer's activations leave the network."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from explainable_model.attribution.containers import Change, first_tensor, replace_tensor


class LayerTap:
    """A forward hook that is there only while somebody listens, and hears only its own thread.

    The hook is put on the layer by the first listener and taken off by the last, so a network at
    rest carries no hook of ours; each thread sees the outputs of its own calls alone.
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
        return replace_tensor(output, activations, change(activations, inputs))


class ActivationCapture:
    """Turns the layer's output into the leaf of a new graph, so autograd sees only the tail.

    An output that already hangs on a graph (another layer's, further up) stays on it. Where a layer
    runs several times in one forward, the last call is the one explained.
    """

    def __init__(self) -> None:
        self.activations: Tensor | None = None

    def __call__(self, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        attached = output.requires_grad
        kept = output if attached else output.detach()
        if _shares_storage(output, inputs):
            kept = kept.clone()  # the layer returned (a view of) its input: others may overwrite it
        self.activations = kept if attached else kept.requires_grad_()
        torch.set_grad_enabled(True)
        # In-place operations after the layer must not overwrite what was captured.
        return self.activations.clone()


def _shares_storage(output: Tensor, inputs: tuple[Any, ...]) -> bool:
    return any(
        isinstance(value, Tensor)
        and value.device == output.device
        and value.layout is torch.strided
        and value.untyped_storage().data_ptr() == output.untyped_storage().data_ptr()
        for value in inputs
    )
