"""Names of layers: those of nodes, of their outputs, and of the modules that PyTorch's exporters wrote down."""

import ast
import re
from typing import Any

from torch import nn

SCOPES = "pkg.torch.onnx.name_scopes"  # of torch's newer exporter
OTHER = re.compile(r"[^0-9A-Za-z_]+")
REPEATED = re.compile(r"_\d+$")  # the older exporter numbers the calls of a module
LONGEST = 10_000  # characters of a note
RESERVED = frozenset(
    {
        "casts_image", "channels_last", "cut", "dtype", "fixed_batch", "graph", "image_shape", "inputs", "kept_names",
        "layer_aliases", "layer_note", "metadata", "notes", "operator_of", "output_names", "run", "steps", "title_of",
        "training",
    }
)  # fmt: skip
"""What a network that was read from a file is asked for; none of its layers has such a name."""


def valid_name(wanted: str, taken: Any, fallback: str) -> str:
    """A name for a layer that no other layer has and that Python and TorchScript accept."""
    name = OTHER.sub("_", wanted).strip("_")[-120:] or fallback
    if name[0].isdigit():
        name = f"{fallback}_{name}"
    unique, number = name, 1
    while unique in taken or unique in RESERVED or hasattr(nn.Module, unique):
        number += 1
        unique = f"{name}_{number}"
    return unique


def scopes_of(node: Any) -> list[str]:
    """The names of the modules of the exported network that a node belongs to, the outermost first."""
    for note in node.metadata_props:
        if note.key == SCOPES and len(note.value) <= LONGEST:
            try:
                found = ast.literal_eval(note.value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return []
            is_list = isinstance(found, (list, tuple)) and all(isinstance(scope, str) for scope in found)
            return [scope for scope in found[:-1] if scope] if is_list else []
    return _scopes_of_path(node.name)


def _scopes_of_path(name: str) -> list[str]:
    """``/layer4/layer4.1/relu/Relu``: the older exporter writes each part with or without what stands before it."""
    found: list[str] = []
    for part in name.split("/")[1:-1]:
        found.append(part if not found or part.startswith(f"{found[-1]}.") else f"{found[-1]}.{part}")
    return found


class Aliases:
    """Other names of layers: of nodes, of tensors and of modules of the exported network.

    A name that several layers have stands for the last of them in the graph, as a module ends with its last node.
    """

    def __init__(self) -> None:
        self.layers: dict[str, str] = {}
        self._scopes: dict[str, str] = {}
        self._ambiguous: set[str] = set()

    def add(self, layer: str, node: Any, folded: bool) -> None:
        """Write down the other names of a layer.

        Args:
            layer: its name.
            node: of the graph.
            folded: whether its weights are not those of the module that is named, as where an exporter put a norm into
                a convolution: then the module's name would stand for another value.
        """
        for other in (node.name, *node.output[:1]):
            if other and other != layer:
                self.layers.setdefault(other, layer)
        scopes = scopes_of(node)
        for scope in scopes[:-1] if folded else scopes:
            self._scopes[scope] = layer
            first = REPEATED.sub("", scope)
            if first != scope and first in self._scopes:  # its second call, or another module: the name is ambiguous
                self._ambiguous.add(first)
        if folded and scopes:
            self._scopes.pop(scopes[-1], None)

    def resolve(self) -> dict[str, str]:
        """Every other name of a layer, with the layer's own."""
        clear = {scope: layer for scope, layer in self._scopes.items() if scope not in self._ambiguous}
        return {**clear, **self.layers}
