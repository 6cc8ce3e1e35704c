"""What exports leave in tables of the process, and what is dropped of it."""

import gc
import linecache
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import graph_module
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from explainable_model import ExplainableModel, export, lower
from explainable_model.lowering.capture.leftovers import forget_leftovers
from tests.support.nets import SmallNet, images, seeded


def make_graph() -> fx.GraphModule:
    return fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))


def name_of(graph: Callable[[Tensor], Tensor]) -> str:
    return str(type(graph).forward.__code__.co_filename)  # type: ignore[attr-defined]


def clear() -> None:
    for _ in range(2):  # the second drops what the first found unused
        with forget_leftovers():
            pass


def test_texts_of_graphs_that_are_gone() -> None:
    kept, gone = make_graph(), make_graph()
    earlier, names = name_of(kept), (name_of(kept), name_of(gone))
    table = graph_module._loader.eval_cache
    kept.recompile()  # writes another text, and its first one is not needed any more
    del gone
    gc.collect()
    clear()
    assert not {earlier, *names} & {*table, *linecache.cache}
    assert name_of(kept) in table
    assert "def forward" in "".join(linecache.getlines(name_of(kept))), "TorchScript and tracebacks read the text"


def test_a_text_that_is_new_stays_for_one_more_call() -> None:
    """Another thread may have written it, and not have made its graph yet."""
    table = graph_module._loader.eval_cache
    table["<eval_with_key>.new"] = "x = 1"
    with forget_leftovers():
        pass
    assert "<eval_with_key>.new" in table
    clear()
    assert "<eval_with_key>.new" not in table


def test_no_shapes_of_a_lowering_stay() -> None:
    """The answers of operators on fake tensors, whose keys hold on to the shapes of one lowering."""
    explainable = ExplainableModel(seeded(SmallNet()), "block")
    lower(explainable, images(2, (3, 16, 16)))
    known = len(FakeTensorMode.cache)
    lower(explainable, images(2, (3, 16, 16)))
    assert len(FakeTensorMode.cache) == known


def count_shapes() -> int:
    gc.collect()
    return sum(type(thing) is ShapeEnv for thing in gc.get_objects())


def test_no_shapes_of_an_export_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter of ONNX makes a program of its own, whose inputs and shapes hold on to each other in C++."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest keeps what it is told
    explainable, image = ExplainableModel(seeded(SmallNet()), "block"), images(2, (3, 16, 16))
    counts = []
    for _ in range(3):  # the first two fill tables that keep the last shapes
        export(explainable, tmp_path / "net.onnx", image)
        counts.append(count_shapes())
    assert counts[2] <= counts[1]
