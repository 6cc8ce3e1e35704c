"""Find out whether the automatic choice lies in one of several networks that see the image side by side."""

from collections.abc import Iterable

import torch
from torch import Tensor

from explainable_model.eager.example import Example
from explainable_model.eager.layer_candidates import depends_on, is_passive
from explainable_model.eager.record import OutputRecord
from explainable_model.eager.tap import LayerTap, run_with_tail


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
    """Those on which the prediction depends, and neither of which and of the layer depends on the other."""
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
            score = scores.values.gather(1, scores.columns[:, :1]).sum()
            found = [(name, capture.activations) for name, capture in zip(ends, captures, strict=False)]
            return [name for name, tensor in found if tensor is not None and _is_parallel(score, chosen, tensor)]


def _is_parallel(score: Tensor, chosen: Tensor, other: Tensor) -> bool:
    return depends_on(score, other) and not depends_on(chosen, other) and not depends_on(other, chosen)


def describe_layers(names: Iterable[str]) -> str:
    """A list of layers as a user writes it."""
    return f"[{', '.join(map(repr, names))}]"
