"""Hostile LiteRT models: operators of others, loops, numbers outside of the file, indices that lead nowhere."""

import contextlib
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainable_model import load, read_metadata
from explainable_model.errors import ArtifactError
from explainable_model.exporters.guard.litert_file import read_litert
from tests.support.hostile import GOOD, assert_refused

BEFORE = GOOD / "before.tflite"


def edit_model(target: Path, edit: Callable[[Any], None]) -> Path:
    """Write the file with its objects changed."""
    from explainable_model.exporters.litert import pack

    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(BEFORE.read_bytes())
    edit(model)
    target.write_bytes(pack(model, schema))
    return target


def set_operator(name: str) -> Callable[[Any], None]:
    def edit(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        number = getattr(schema.BuiltinOperator, name)
        model.operatorCodes[0].builtinCode, model.operatorCodes[0].deprecatedBuiltinCode = number, min(number, 127)

    return edit


def add_graph(model: Any) -> None:
    model.subgraphs = [model.subgraphs[0], model.subgraphs[0]]


def add_custom_code(model: Any) -> None:
    model.operatorCodes[0].customCode = b"RunProgram"


def point_at_nothing(model: Any) -> None:
    model.subgraphs[0].operators[0].opcodeIndex = 10_000


def read_no_tensor(model: Any) -> None:
    model.subgraphs[0].operators[0].inputs = np.array([1 << 20, 0], np.int32)


def write_no_tensor(model: Any) -> None:
    model.subgraphs[0].operators[0].outputs = np.array([-1], np.int32)


def end_nowhere(model: Any) -> None:
    model.subgraphs[0].outputs = np.array([-5], np.int32)


def sign_nowhere(model: Any) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = 1 << 20


def keep_weights_nowhere(model: Any) -> None:
    model.subgraphs[0].tensors[0].buffer = 1 << 20


def shorten_a_weight(model: Any) -> None:
    buffer = max((each for each in model.buffers if not isinstance(each.data, int | None)), key=lambda b: len(b.data))
    buffer.data = buffer.data[:4]


def widen_a_tensor(model: Any) -> None:
    model.subgraphs[0].tensors[-1].shape = np.array([1 << 20, 1 << 20], np.int32)


def open_a_tensor(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = np.array([-1, 3], np.int32)


def keep_a_state(model: Any) -> None:
    model.subgraphs[0].tensors[-1].isVariable = True


def change_the_type(model: Any) -> None:
    model.subgraphs[0].tensors[-1].type = 13  # a resource


def share_a_long_name(model: Any) -> None:
    model.subgraphs[0].tensors[0].name = b"x" * 100_000


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_operator("WHILE"), "it has the operator 'WHILE'"),
        (set_operator("CUSTOM"), "it has the operator 'CUSTOM'"),
        (set_operator("CALL_ONCE"), "it has the operator 'CALL_ONCE'"),
        (set_operator("VAR_HANDLE"), "it has the operator 'VAR_HANDLE'"),
        (add_custom_code, "it has the operator"),
        (add_graph, "it has 2 graphs"),
        (point_at_nothing, "an operator has no name"),
        (read_no_tensor, "an index leads to no tensor"),
        (write_no_tensor, "an index leads to no tensor"),
        (end_nowhere, "an index leads to no tensor"),
        (sign_nowhere, "an index leads to no tensor"),
        (keep_weights_nowhere, "the numbers of a tensor lie outside"),
        (shorten_a_weight, "a weight has 4 bytes"),
        (widen_a_tensor, "a call would take 4096 GiB"),
        (open_a_tensor, "a tensor of open size"),
        (keep_a_state, "a tensor that keeps a state"),
        (change_the_type, "a tensor of the type 13"),
        (share_a_long_name, "a name of more than 2000 characters"),
    ],
)
def test_parts_that_a_graph_does_not_need(tmp_path: Path, edit: Callable[[Any], None], message: str) -> None:
    assert_refused(edit_model(tmp_path / "net.tflite", edit), match=message)


def test_a_model_that_is_only_rewritten_stays(tmp_path: Path) -> None:
    path = edit_model(tmp_path / "net.tflite", lambda model: None)
    image = np.load(GOOD / "before.npz")["image"][:1]
    assert np.array_equal(load(path)(image).cam, load(BEFORE)(image).cam)


def test_a_broken_file(tmp_path: Path) -> None:
    """Each number of the tables changed: the reader stays within the file, and its error is ours."""
    path, whole = tmp_path / "net.tflite", BEFORE.read_bytes()
    for content in (b"", b"TFL3", bytes(100), whole[:8], whole[:1000], whole[:-40], b"\0" * 4 + whole[4:]):
        path.write_bytes(content)
        with pytest.raises(ArtifactError):
            read_metadata(path)
    places = random.Random(0).sample(range(0, len(whole) - 4, 4), 300)
    for place in places:
        for number in (0, 0x7FFFFFFF, 0xFFFFFFF0):
            changed = bytearray(whole)
            struct.pack_into("<I", changed, place, number)
            path.write_bytes(changed)
            with contextlib.suppress(ArtifactError):
                read_metadata(path)


FUZZ = """
import random, sys, warnings
import numpy as np
from pathlib import Path
from explainable_model import load
from explainable_model.errors import ExplainableModelError
whole, folder = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
image = np.load(sys.argv[3])["image"][:1]
ended = {"answered": 0, "refused": 0}
for seed in range(int(sys.argv[4])):
    changed, chance = bytearray(whole), random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    (folder / "net.tflite").write_bytes(changed)
    print(seed, file=sys.stderr, flush=True)
    try:
        load(folder / "net.tflite")(image)
        ended["answered"] += 1
    except ExplainableModelError:
        ended["refused"] += 1
print(ended)
"""


def test_changed_bytes_end_no_process(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    command = [sys.executable, "-W", "ignore", "-c", FUZZ, str(BEFORE), str(tmp_path), str(GOOD / "before.npz"), "200"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "answered" in done.stdout


def test_the_reader_needs_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    assert '"schema_version"' in read_litert(BEFORE)[1]
    assert read_metadata(BEFORE).format == "litert"
