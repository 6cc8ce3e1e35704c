"""Find out whether the automatic choice lies in one of several networks that see the image side by side."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from explainable_model.eager.example import Example
from explainable_model.eager.image_dependence import find_blind_layers
from explainable_model.eager.layer_candidates import is_passive
from explainable_model.eager.record import OutputRecord
from explainable_model.eager.tap import LayerTap, run_with_tail

# Operations whose result is made of several side by side; a product lets one decide how much of another is seen.
JOINTS = re.compile("(Add|Sub|Rsub|Cat|Stack|Maximum|Minimum|Lerp|Logaddexp)Backward|CopySlices")


def find_parallel_layers(example: Example, record: OutputRecord, layer: str) -> list[str]:
    """The layers that stand for the other members of an ensemble, or for its other streams, as this one for its own.

    Args:
        example: how the network is called, and what is explained.
        record: of a run on the example.
        layer: the automatic choice.
    """
    parts = layer.split(".")
    for depth in range(1, len(parts) + 1):
        own, above = ".".join(parts[:depth]), ".".join(parts[: depth - 1])
        if not _has_stem(record, own):
            break
        siblings = dict.fromkeys(_child(name, above, depth) for name in record.outputs if _is_in(name, above))
        ends = [_find_end(record, child, layer[len(own) :]) for child in siblings if child != own]
        found = _keep_parallel(example, layer, [end for end in ends if end is not None])
        if found:
            return found
    return []


def _is_in(name: str, module: str) -> bool:
    return not module or name == module or name.startswith(f"{module}.")


def _child(name: str, above: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _has_stem(record: OutputRecord, module: str) -> bool:
    return any(_is_in(name, module) for name in record.stems)


def _find_end(record: OutputRecord, module: str, path: str) -> str | None:
    """The layer of the same path in another member, or its last map; ``None`` where it does not see the image."""
    if not _has_stem(record, module):
        return None
    names = [name for name, entry in record.outputs.items() if entry.layout is not None and _is_in(name, module)]
    maps = [name for name in names if record.is_map(record.outputs[name])]
    if f"{module}{path}" in maps:
        return f"{module}{path}"
    last = [name for name in maps if not is_passive(record.model.get_submodule(name))]
    return last[-1] if last else None


def _keep_parallel(example: Example, layer: str, ends: list[str]) -> list[str]:
    """Those that see the image as the layer does, and whose results the prediction joins with the layer's."""
    if not ends:
        return []
    names = [*ends, layer]
    with torch.inference_mode(False):
        scores, captures = run_with_tail(
            example.model,
            names,
            [LayerTap() for _ in names],
            example.image.detach(),
            lambda image: example.score(example.run(image)),
        )
        chosen = captures[-1].activations
        if chosen is None or not scores.values.requires_grad:
            return []
        with torch.enable_grad():
            score = scores.first.sum()
        found = {n: c.activations for n, c in zip(ends, captures, strict=False) if c.activations is not None}
        blind = find_blind_layers(example, found) if found else set()
        return [name for name, tensor in found.items() if name not in blind and _are_joined(score, chosen, tensor)]


def _are_joined(score: Tensor, chosen: Tensor, other: Tensor) -> bool:
    """Whether neither of two maps depends on the other, and one operation of the score adds or stacks their results."""
    ends = get_gradient_edge(chosen).node, get_gradient_edge(other).node
    seen = dict[Node | None, int]()  # for each operation, which of the two it depends on: 1, 2 or both, 3
    joints = list[Node]()
    stack: list[tuple[Node, bool]] = [(get_gradient_edge(score).node, False)]
    while stack:
        node, is_expanded = stack.pop()
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if is_expanded:
            sides = [seen[parent] for parent in parents]
            own = 1 * (node is ends[0]) + 2 * (node is ends[1])
            if own and any(sides):
                return False
            seen[node] = own | (1 in sides or 3 in sides) | 2 * (2 in sides or 3 in sides)
            if seen[node] == 3 and 3 not in sides:
                joints.append(node)
        elif node not in seen:
            seen[node] = 0
            stack.append((node, True))
            stack += [(parent, False) for parent in parents]
    return any(JOINTS.search(joint.name()) for joint in joints)


def describe_layers(names: Iterable[str]) -> str:
    """A list of layers as a user writes it."""
    return f"[{', '.join(map(repr, names))}]"
