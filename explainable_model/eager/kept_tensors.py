"""Leave no graph behind in what a network keeps between its calls.

Networks keep tables that they make of their parameters, attention that somebody may look at, or features for a skip
connection: in attributes, dictionaries, lists, tuples and objects. A tensor with a graph there holds the memory of a
whole run, and the network can be neither copied nor exported.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

DEPTH = 5  # containers and objects inside one another
# What every module has, without a tensor that has a graph; buffers and the objects of hooks may have some.
OWN = frozenset(vars(nn.Module())) - {"_buffers", "_forward_hooks", "_forward_pre_hooks"}
PLAIN = (str, bytes, int, float, type, nn.Module, ModuleType)


@dataclass(frozen=True)
class Place:
    """Where a value is kept: an entry of a dictionary or a list, or of the tuple that is at another place."""

    container: Any
    key: Any

    def get(self) -> Any:
        """The value that is there now."""
        return (self.container.get() if isinstance(self.container, Place) else self.container)[self.key]

    def put(self, value: Any) -> None:
        """Exchange the value."""
        if not isinstance(self.container, Place):
            self.container[self.key] = value
            return
        whole = self.container.get()
        parts = [*whole[: self.key], value, *whole[self.key + 1 :]]
        self.container.put(type(whole)(*parts) if hasattr(whole, "_fields") else tuple(parts))


@contextmanager
def without_graphs_left(network: nn.Module) -> Iterator[None]:
    """Detach at the end whatever tensors with a graph a network keeps and did not keep before."""
    before = {id(place.get()) for place in find_graphs(network)}
    try:
        yield
    finally:
        for place in list(find_graphs(network)):
            if id(place.get()) not in before:
                place.put(place.get().detach())


@contextmanager
def graphs_put_aside(network: nn.Module) -> Iterator[None]:
    """Keep detached tensors, inside the context, instead of those with a graph that the user's own calls left."""
    aside = [(place, place.get(), place.get().detach()) for place in find_graphs(network)]
    for place, _, detached in aside:
        place.put(detached)
    try:
        yield
    finally:
        for place, tensor, detached in aside:
            if place.get() is detached:
                place.put(tensor)


def find_graphs(network: nn.Module) -> Iterator[Place]:
    """Where the modules of a network keep tensors with a graph."""
    seen: set[int] = set()
    for module in network.modules():
        attributes = vars(module)
        for key in [key for key in attributes if key not in OWN]:
            yield from _walk(Place(attributes, key), attributes[key], seen, DEPTH)


def _walk(place: Place, value: Any, seen: set[int], depth: int) -> Iterator[Place]:
    if isinstance(value, Tensor):
        if value.grad_fn is not None:
            yield place
        return
    if value is None or not depth or isinstance(value, PLAIN) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, tuple):
        places = [(Place(place, index), item) for index, item in enumerate(value)]
    elif isinstance(value, (list, deque)):
        places = [(Place(value, index), item) for index, item in enumerate(value)]
    else:
        owner = value.__self__ if isinstance(value, MethodType) else value
        inner = owner if isinstance(owner, dict) else getattr(owner, "__dict__", None)
        if not isinstance(inner, dict) or isinstance(owner, PLAIN):
            return
        places = [(Place(inner, key), item) for key, item in inner.items()]
    for at, item in places:
        yield from _walk(at, item, seen, depth - 1)
