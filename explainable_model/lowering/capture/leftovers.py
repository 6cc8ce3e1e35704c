"""What PyTorch's exporters leave in tables of the process: one that exports again and again would keep all of it."""

import contextlib
import itertools
import linecache
from collections.abc import Iterator
from typing import Any

from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.fx import graph_module
from torch.fx.experimental.symbolic_shapes import ShapeEnv

_texts_seen: set[str] = set()
"""Names of the texts that were in the table when it was last cleared."""


@contextlib.contextmanager
def forget_leftovers() -> Iterator[None]:
    """Drop what exports leave in tables of the process: of shapes at the end, of texts those of earlier exports.

    Passes over the graph ask for shapes as well as the export itself, so whoever lowers or writes is inside of it.
    """
    with _forget_shapes():
        try:
            yield
        finally:
            _forget_texts()


def release_inputs(program: ExportedProgram) -> None:
    """Let go of the fake inputs that the shapes of a program hold on to for the guards, which were made.

    The sizes of a fake tensor hold on to the shapes in turn, out of sight of Python's garbage collector.
    """
    values = (node.meta.get("val") for node in program.graph.find_nodes(op="placeholder"))
    for shapes in {value.fake_mode.shape_env for value in values if isinstance(value, FakeTensor)}:
        if shapes is not None and shapes.tracked_fakes:
            shapes.tracked_fakes = []


@contextlib.contextmanager
def _forget_shapes() -> Iterator[None]:
    """Drop answers of operators on fake tensors, and of symbols.

    Their keys name the symbols of one export, so that no other export finds them, and hold on to its shapes: a process
    that exports again and again would keep a megabyte of each.
    """
    table = getattr(FakeTensorMode, "cache", {})
    known = len(table)
    try:
        yield
    finally:
        for key in list(itertools.islice(table, known, None)):
            table.pop(key, None)
        for method in vars(ShapeEnv).values():
            if hasattr(method, "cache_clear"):
                method.cache_clear()


def _forget_texts() -> None:
    """Drop the Python texts of graphs that no longer exist; each pass over a graph writes one, some 30 in an export.

    A text is dropped by the second call that finds it without a graph: another thread may be making its graph now.
    """
    table: dict[str, str] = getattr(getattr(graph_module, "_loader", None), "eval_cache", {})
    unused = set(table) - set(_find_used(fx.GraphModule))
    for name in unused & _texts_seen:
        table.pop(name, None)
        linecache.cache.pop(name, None)
    _texts_seen.clear()
    _texts_seen.update(unused)


def _find_used(kind: type[Any]) -> Iterator[str]:
    """Names of the texts that the classes of living graphs were made of; each graph has a class of its own."""
    for made in type.__subclasses__(kind):
        code = getattr(vars(made).get("forward"), "__code__", None)
        if code is not None:
            yield code.co_filename
        yield from _find_used(made)
