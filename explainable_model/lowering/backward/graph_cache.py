"""Captured graphs of one network, each used only while the network is as it was when the graph was captured."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.network import DifferentiableNetwork
from explainable_model.attribution.plan import Plan
from explainable_model.eager.tap import LayerTap
from explainable_model.lowering.backward import networks

CAPACITY = 8
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
PLAIN = (str, int, float, bool)
DEPTH, MOST_PARTS = 5, 1000  # how far the values of attributes are looked into
CONTAINERS = ("_parameters", "_buffers", "_modules")


class GraphCache:
    """The graphs that were captured last, at most eight. A copy of it (``deepcopy``, ``pickle``) is empty."""

    def __init__(self) -> None:
        self._graphs: OrderedDict[Hashable, tuple[list[Any], DifferentiableNetwork]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["GraphCache"], tuple[()]]:
        return GraphCache, ()

    def __len__(self) -> int:
        return len(self._graphs)

    def find(self, model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> DifferentiableNetwork:
        """The graph of the network as it is now, for images and extra inputs of these shapes.

        Raises:
            LoweringError, LayerError, ModelError: as ``captured_network``.
        """
        kinds = [(tensor.shape[1:], tensor.dtype, tensor.device) for tensor in (image, *inputs)]
        key = (plan.layers, plan.call, *kinds, _autocast_state())
        with self._lock:
            for known in (key, (*key, len(image))):
                if known in self._graphs and _are_same(self._graphs[known][0], list(_state(model))):
                    self._graphs.move_to_end(known)
                    return self._graphs[known][1]
            graph = networks.captured_network(model, plan, image, inputs)
            if graph.batch is not None:
                key = (*key, graph.batch)
            self._graphs[key] = list(_state(model)), graph
            self._graphs.move_to_end(key)
            while len(self._graphs) > CAPACITY:
                self._graphs.popitem(last=False)
            return graph


def _state(model: nn.Module) -> Iterator[Any]:
    """Every object whose exchange can change the forward: modules, tensors, hooks and attributes.

    A tensor that is written to in place is the graph's tensor, too, and needs no new graph.
    """
    seen: set[int] = set()
    for name, module in model.named_modules():
        yield from (name, module, type(module))
        for attribute, value in vars(module).items():
            if attribute in CONTAINERS:
                yield from value.items()
                yield from (part.data_ptr() for part in value.values() if type(part) in (Tensor, nn.Parameter))
            elif attribute in HOOKS:
                yield from (
                    hook for hook in value.values() if not isinstance(getattr(hook, "__self__", None), LayerTap)
                )
            elif attribute.startswith("_") and isinstance(value, dict):
                continue  # PyTorch's records of other hooks
            else:
                yield attribute
                yield from _parts(value, DEPTH, seen)


def _parts(value: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    """A value and what it holds: a list, a dictionary or a record of settings may be changed where it is."""
    yield value
    if depth == 0 or id(value) in seen or isinstance(value, (*PLAIN, Tensor, nn.Module, type)) or callable(value):
        return
    if not isinstance(value, tuple):  # many modules share one record of settings; a pair of a dictionary is made anew
        seen.add(id(value))
    if isinstance(value, dict):
        held: list[Any] = list(value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        held = list(value)
    else:
        held = list(getattr(value, "__dict__", {}).items())
    for part in held[:MOST_PARTS]:
        yield from _parts(part, depth - 1, seen)


def _are_same(before: list[Any], now: list[Any]) -> bool:
    return len(before) == len(now) and all(map(_is_same, before, now))


def _is_same(before: Any, now: Any) -> bool:
    if before is now:
        return True
    if isinstance(before, tuple) and isinstance(now, tuple):
        return _are_same(list(before), list(now))
    return isinstance(before, PLAIN) and type(before) is type(now) and before == now


def _autocast_state() -> tuple[Any, ...]:
    return tuple((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda"))
