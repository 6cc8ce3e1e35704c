"""Lists and texts in the graph of a TorchScript file: none may grow, since each step could double it.

The graph computes with tensors, whose memory ``torch_work`` measures. Lists of sizes and the text of an error are
values of the interpreter, which nothing measures.
"""

from collections.abc import Iterator
from typing import Any

from explainable_model.exporters.guard.refusal import Refusal

GROWING = {"aten::add", "aten::add_", "aten::mul", "aten::mul_"}  # [1] * 1_000_000_000
GROWN = {"ListType", "StringType", "DictType"}


def check_lists(module: Any) -> None:
    """Check that no list and no text of the graph grows.

    Args:
        module: a ``torch.jit.ScriptModule``, which has not run.

    Raises:
        Refusal: an operator joins or repeats lists or texts, or writes a text into another one.
    """
    for node in _walk_methods(module):
        kinds = {output.type().kind() for output in node.outputs()}
        if node.kind() in GROWING and kinds & GROWN:
            raise Refusal("its code joins or repeats lists")
        if node.kind() == "aten::format":
            template, *values = node.inputs()
            fixed = template.node().kind() in ("prim::Constant", "prim::GetAttr")
            if not fixed or any(value.type().kind() == "StringType" for value in values):
                raise Refusal("its code writes a text into a text")


def _walk_methods(module: Any) -> Iterator[Any]:
    """The nodes of every method as the file has it; PyTorch would unfold the lists while it puts methods together."""
    for part in module.modules():
        for name in part._c._method_names():
            yield from _walk(part._c._get_method(name).graph)


def _walk(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _walk(inner)
