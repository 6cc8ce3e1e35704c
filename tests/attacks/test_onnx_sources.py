"""ONNX files that are read as networks, and ask for more than a network needs."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper

import explainable_model as xm
from explainable_model.errors import ModelError
from explainable_model.networks.onnx import reference, structure
from explainable_model.networks.onnx.describe import describe_file
from tests.support.onnx_files import Small, constant, model_of, save, small_model, small_nodes, small_weights

make = helper.make_node
IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
CONSTANTS = [
    *(constant("many", [30_000]), constant("column", [30_000, 1]), constant("row", [1, 200_000])),
    *(constant("zero", 0), constant("one", 1), constant("billion", 10**9), constant("axis", [0])),
    *(constant("big", 2**62), constant("ones", [1.0], np.float32), constant("repeats", [2**20])),
]


def ending(*nodes: NodeProto) -> onnx.ModelProto:
    return model_of([*small_nodes(), *nodes], [*small_weights(), *CONSTANTS], outputs=("end",))


def doubled(first: str, count: int, operator: str, **attributes: Any) -> list[NodeProto]:
    """``count`` nodes, each of which reads what the last one made twice."""
    names = [first, *(f"d{number}" for number in range(count))]
    return [make(operator, [names[n], names[n]], [names[n + 1]], **attributes) for n in range(count)]


def summed(value: str) -> list[NodeProto]:
    """What is left of a value, added to the logits."""
    return [make("ReduceSum", [value], ["s"], keepdims=0), make("Add", ["logits", "s"], ["end"])]


BOMBS: dict[str, Sequence[NodeProto]] = {
    "a product of a column and a row": [
        *(
            make("Expand", ["ones", "column"], ["c"]),
            make("Expand", ["ones", "row"], ["r"]),
            make("Mul", ["c", "r"], ["p"]),
        ),
        *summed("p"),
    ],
    "pixels that double": [*doubled("logits", 40, "Concat", axis=0), *summed("d39")],
    "constants that double": [*doubled("ones", 40, "Concat", axis=0), *summed("d39")],
    "numbers that double": [
        *doubled("many", 40, "Concat", axis=0),
        *(make("Gather", ["d39", "zero"], ["first"]), make("Cast", ["first"], ["f"], to=TensorProto.FLOAT)),
        *summed("f"),
    ],
    "numbers that are squared": [
        *doubled("big", 40, "Mul"),
        *(make("Cast", ["d39"], ["f"], to=TensorProto.FLOAT), *summed("f")),
    ],
    "a range of a billion": [
        *(make("Range", ["zero", "billion", "one"], ["r"]), make("Cast", ["r"], ["f"], to=TensorProto.FLOAT)),
        *summed("f"),
    ],
    "a range without a step": [
        *(make("Range", ["zero", "one", "zero"], ["r"]), make("Cast", ["r"], ["f"], to=TensorProto.FLOAT)),
        *summed("f"),
    ],
    "a tile of a tile": [
        *(make("Tile", ["ones", "repeats"], ["t"]), make("Tile", ["t", "repeats"], ["u"])),
        *summed("u"),
    ],
    "a shape that is divided by zero": [
        *(make("Shape", ["logits"], ["n"]), make("Div", ["n", "zero"], ["q"])),
        *(make("Cast", ["q"], ["f"], to=TensorProto.FLOAT), *summed("f")),
    ],
    "a node that reads its own output": [make("Add", ["logits", "end"], ["end"])],
    "nodes that wait for each other": [make("Add", ["logits", "b"], ["end"]), make("Relu", ["end"], ["b"])],
    "a value that is made twice": [make("Relu", ["logits"], ["end"]), make("Tanh", ["logits"], ["end"])],
}

READ = """
import resource, sys
from explainable_model import from_onnx
from explainable_model.errors import ModelError
from explainable_model.networks.onnx import reference
reference.MOST_BYTES = 2**29
for path in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        from_onnx(path)
        said = "read"
    except ModelError as error:
        said = f"refused: {error}"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said.replace("\\n", " "), flush=True)
"""


def test_graphs_that_ask_for_everything(tmp_path: Path) -> None:
    """Each is refused, or read within the bound, in a process whose memory is measured."""
    files = [save(ending(*nodes), tmp_path, f"{number}.onnx") for number, nodes in enumerate(BOMBS.values())]
    done = subprocess.run([sys.executable, "-c", READ, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, line in zip(BOMBS, done.stdout.splitlines(), strict=True):
        grown, _, said = line.partition(" ")
        assert said.startswith("refused"), f"{name}: {said}"
        assert int(grown) < 2**20, f"{name} took {int(grown) >> 10} MiB: {said}"


def test_nodes_in_any_order(tmp_path: Path) -> None:
    """ONNX Runtime brings them in order; so does the reader."""
    model = small_model()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    torch.testing.assert_close(xm.from_onnx(save(model, tmp_path))(IMAGE), Small()(IMAGE), atol=1e-5, rtol=1e-5)


def with_functions(calls: Sequence[tuple[str, str]], width: int) -> onnx.ModelProto:
    """A graph that calls the first function; each calls the next one ``width`` times."""
    functions = []
    for name, next_ in calls:
        nodes = [make(next_, [f"v{n}"], [f"v{n + 1}"], domain="own" if next_ != "Relu" else "") for n in range(width)]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", name, ["v0"], [f"v{width}"], nodes, opsets))
    model = ending(make(calls[0][0], ["logits"], ["end"], domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.extend(functions)
    return model


def test_functions(tmp_path: Path) -> None:
    chain = [(f"f{n}", f"f{n + 1}") for n in range(9)] + [("f9", "Relu")]
    with pytest.raises(ModelError, match="stand for more than 1,000,000 nodes"):
        xm.from_onnx(save(with_functions(chain, 10), tmp_path))
    with pytest.raises(ModelError, match="calls itself"):
        describe_file(save(with_functions([("f0", "f1"), ("f1", "f0")], 1), tmp_path))
    expected = torch.relu(Small()(IMAGE))
    found = xm.from_onnx(save(with_functions(chain[8:], 2), tmp_path))(IMAGE)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def place(tensor: TensorProto, **entries: object) -> None:
    tensor.ClearField("raw_data")
    tensor.ClearField("external_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))


def repeat_bytes(model: onnx.ModelProto, folder: Path) -> None:
    """Ten weights that are the same bytes."""
    (folder / "w.data").write_bytes(bytes(2**16))
    for number in range(10):
        tensor = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[2**14])
        place(tensor, location="w.data", offset=0, length=2**16)
        model.graph.initializer.append(tensor)


def hold_nothing(model: onnx.ModelProto, folder: Path) -> None:
    """Weights of just below 2 GiB in a file that is a hole."""
    with (folder / "w.data").open("wb") as file:
        file.truncate(2**31 - 4)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2**29 - 1])
    place(tensor, location="w.data")
    model.graph.initializer.append(tensor)


def claim_more(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.data").write_bytes(bytes(100))
    place(model.graph.initializer[0], location="w.data", offset=0, length=100)


def begin_before(model: onnx.ModelProto, folder: Path) -> None:
    (folder / "w.data").write_bytes(bytes(100))
    place(model.graph.initializer[0], location="w.data", offset=-50, length=100)


def name_with_nul(model: onnx.ModelProto, folder: Path) -> None:
    place(model.graph.initializer[0], location="w\0.data")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (repeat_bytes, "reads 655360 bytes of weights from 65536"),
        (hold_nothing, "bytes long and holds"),
        (claim_more, "need 648 bytes, and w.data has 100"),
        (begin_before, "end at 50: truncated, or another file"),
        (name_with_nul, "expected a file inside its own folder"),
    ],
)
def test_weights_beside_the_file(damage: Callable[[onnx.ModelProto, Path], None], message: str, tmp_path: Path) -> None:
    model = small_model()
    damage(model, tmp_path)
    (path := tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=message):
        xm.from_onnx(path)


@pytest.mark.parametrize(
    ("shape", "message"), [((2**62, 3, 16, 16), "shape"), ((1, 3, 2**40, 16), "shape"), ((1, 2**31, 16, 16), "shape")]
)
def test_images_that_fill_the_memory(shape: tuple[int, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        xm.from_onnx(save(small_model(shape=shape), tmp_path))


def test_a_loop_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes before the layer stay the file's own, so ONNX Runtime runs the loop."""
    monkeypatch.setattr(reference, "SECONDS", 1.0)
    body = helper.make_graph(
        [make("Identity", ["go"], ["on"]), make("Identity", ["x"], ["y"])],
        "body",
        [
            *(helper.make_tensor_value_info("i", TensorProto.INT64, []),),
            *(helper.make_tensor_value_info("go", TensorProto.BOOL, []),),
            *(helper.make_tensor_value_info("x", TensorProto.FLOAT, None),),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    nodes = [make("Loop", ["times", "yes", "image"], ["looped"], name="loop", body=body), *small_nodes("looped")]
    weights = [*small_weights(), constant("times", 2**62), constant("yes", True, np.bool_)]
    with pytest.raises(ModelError, match="does not end within 1 s"):
        xm.from_onnx(save(model_of(nodes, weights), tmp_path), keep_graph=True)


def test_holes_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "LONG_FILE", 1000)
    (whole := tmp_path / "whole").write_bytes(bytes(range(256)) * 400)
    structure.refuse_holes(whole)
    with (hole := tmp_path / "hole").open("wb") as file:
        file.truncate(2**20)
    with pytest.raises(ModelError, match="holds 0"):
        structure.refuse_holes(hole)
