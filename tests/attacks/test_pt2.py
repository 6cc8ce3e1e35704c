"""Hostile ``.pt2`` files: each runs code in PyTorch's own loader, and is refused by ours."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explainable_model import load
from explainable_model.errors import UntrustedArtifactError
from explainable_model.lowering.capture.export import quiet_export
from tests.support.hostile import GOOD, PROGRAM, Payload, assert_refused, edit_json, rewrite

BEFORE = GOOD / "before.pt2"
CONSTANTS = "data/constants/model_constants_config.json"


def write_marker(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def edit_graph(edit: Callable[[Any], None]) -> dict[str, Callable[[bytes], bytes]]:
    return {PROGRAM: edit_json(lambda program: edit(program))}


def first_size(program: Any) -> Any:
    values = program["graph_module"]["graph"]["tensor_values"].values()
    return next(size for value in values for size in value["sizes"] if "as_expr" in size)


def run_with_torch(path: Path) -> None:
    """Load and run the file as PyTorch does, to see that the attack is one."""
    try:
        with quiet_export():
            torch.export.load(path).module()(torch.zeros(1, 3, 16, 16), torch.zeros(1, dtype=torch.int64))
    except Exception:
        return  # what it did before is what matters


def test_the_good_file_is_accepted() -> None:
    with np.load(GOOD / "before.npz") as expected:
        answer = load(BEFORE)(expected["image"])
        assert np.abs(answer.cam - expected["cam"]).max() < 1e-5


@pytest.mark.parametrize("text", ["{0} or 1", "Symbol('s0', integer={0})", "s0 + ({0} and 1)"])
def test_an_expression_of_a_size(tmp_path: Path, text: str) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pt2"
    expression = text.format(write_marker(marker))
    rewrite(BEFORE, path, edit_graph(lambda program: first_size(program)["as_expr"].update(expr_str=expression)))
    assert_refused(path, marker, "cannot be shown to be harmless: .*expression of sizes")
    run_with_torch(path)
    assert marker.exists(), "the attack is none"


def test_a_condition_on_the_inputs(tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pt2"
    rewrite(BEFORE, path, edit_graph(lambda program: program.update(guards_code=[f"{write_marker(marker)} or True"])))
    assert_refused(path, marker, "cannot be shown to be harmless")
    run_with_torch(path)
    assert marker.exists(), "the attack is none"


def test_a_name_that_becomes_code(tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pt2"
    name = f"image={write_marker(marker)}"
    rewrite(BEFORE, path, {PROGRAM: lambda content: content.replace(b'"image"', json.dumps(name).encode())})
    assert_refused(path, marker, "stands where a name belongs")


@pytest.mark.parametrize("prefix", ["opaque_obj", "custom_obj", "tensor"])
def test_a_constant_that_is_a_pickle(tmp_path: Path, prefix: str) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pt2"
    record = {"path_name": f"{prefix}_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    buffer = io.BytesIO()
    torch.save(Payload(marker), buffer)
    content = pickle.dumps(Payload(marker)) if prefix == "opaque_obj" else buffer.getvalue()
    change = {CONSTANTS: json.dumps({"config": {"hostile": record}}).encode()}
    rewrite(BEFORE, path, change, {f"data/constants/{prefix}_0": content})
    assert_refused(path, marker, "cannot be shown to be harmless")
    if prefix != "custom_obj":
        run_with_torch(path)
        assert marker.exists(), "the attack is none"


@pytest.mark.parametrize("name", ["data/weights/model.pt", "data/constants/model.pt", "models/other.json"])
def test_an_entry_that_the_exporter_does_not_write(tmp_path: Path, name: str) -> None:
    marker, path, buffer = tmp_path / "it-ran", tmp_path / "net.pt2", io.BytesIO()
    torch.save(Payload(marker), buffer)
    rewrite(BEFORE, path, more={name: buffer.getvalue()})
    assert_refused(path, marker, "it has the entry")


def test_a_compiled_library(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    rewrite(BEFORE, path, more={"data/aotinductor/model/hostile.so": b"\x7fELF"})
    assert_refused(path, match="it has the entry 'data/aotinductor/model/hostile.so'")


def test_the_example_inputs_are_never_read(tmp_path: Path) -> None:
    marker, path, buffer = tmp_path / "it-ran", tmp_path / "net.pt2", io.BytesIO()
    torch.save(Payload(marker), buffer)
    rewrite(BEFORE, path, {"data/sample_inputs/model.pt": buffer.getvalue()})
    assert load(path)(np.zeros((1, 3, 16, 16), np.float32)).logits.shape == (1, 3)
    assert not marker.exists()
    run_with_torch(path)
    assert marker.exists(), "the attack is none"


def test_two_directories(tmp_path: Path) -> None:
    """Python's reader sees the last directory, and a reader that starts at the front sees the first."""
    marker, hostile, path = tmp_path / "it-ran", tmp_path / "hostile.pt2", tmp_path / "net.pt2"
    expression = f"{write_marker(marker)} or 1"
    rewrite(BEFORE, hostile, edit_graph(lambda program: first_size(program)["as_expr"].update(expr_str=expression)))
    for first, second in ((hostile, BEFORE), (BEFORE, hostile)):
        path.write_bytes(first.read_bytes() + second.read_bytes())
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist()
        assert_refused(path, marker, "damaged", both=True)
        path.write_bytes(first.read_bytes() + b"more")
        assert_refused(path, marker, "damaged", both=True)


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    with pytest.warns(UserWarning, match="Duplicate name"):
        rewrite(BEFORE, path, more={PROGRAM: b"{}"})
    assert_refused(path, match="two have the same name", both=True)


def change_node(**fields: Any) -> Callable[[Any], None]:
    return lambda program: program["graph_module"]["graph"]["nodes"][0].update(fields)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change_node(target="torch.ops.aten.from_file.default"), r"calls 'torch\.ops\.aten\.from_file"),
        (change_node(target="torch.ops.image.read_file.default"), "not among the operators"),
        (change_node(target="torch.ops.higher_order.cond"), "not among the operators"),
        (change_node(target="torch.os.system"), "not among the operators"),
        (change_node(target="_operator.attrgetter"), "not among the operators"),
        (change_node(target="torch.ops.aten.relu.out"), "not among the operators"),
        (change_node(inputs=[{"name": "a", "arg": {"as_operator": "torch.os.system"}, "kind": 1}]), "'as_operator'"),
        (change_node(inputs=[{"name": "a", "arg": {"as_ints": [1 << 20, 1 << 20]}, "kind": 1}]), "holds the sizes"),
        (lambda program: program.update(range_constraints={"u99999999": {"min_val": 0, "max_val": 1}}), "u99999999"),
        (lambda program: program.update(verifiers=["other"]), "'other'"),
        (lambda program: program.update(more=1), "unknown field 'more'"),
        (lambda program: program["graph_module"].update(module_call_graph=[{"fqn": "a;b", "signature": None}]), "a;b"),
    ],
)
def test_parts_that_a_graph_does_not_need(tmp_path: Path, edit: Callable[[Any], None], message: str) -> None:
    path = rewrite(BEFORE, tmp_path / "net.pt2", edit_graph(edit))
    with pytest.raises(UntrustedArtifactError, match=message):
        load(path)


def test_a_structure_that_imports_a_module(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"

    def edit(program: Any) -> None:
        context = json.dumps({"__enum__": True, "fqn": "antigravity:x", "name": "y"})
        spec = json.dumps([1, {"type": "builtins.tuple", "context": context, "children_spec": []}])
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = spec

    rewrite(BEFORE, path, edit_graph(edit))
    assert_refused(path, match="cannot be shown to be harmless")


@pytest.mark.parametrize(
    "text",
    [
        "Mul(" + ", ".join(f"Add(Symbol('s{n % 6}'), Integer({n}))" for n in range(36)) + ")",
        "FloorDiv(" * 60 + "Symbol('s0')" + ", Integer(3))" * 60,
        "2**2**2**2**9",
        "Pow(2, Pow(2, 64))",
        "(" * 300 + "s0" + ")" * 300,
        "s0.aa",
        "-" * 900,
        "+".join(["s0"] * 9000),
    ],
)
def test_an_expression_that_takes_forever(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.pt2"
    rewrite(BEFORE, path, edit_graph(lambda program: first_size(program)["as_expr"].update(expr_str=text)))
    assert_refused(path, match="cannot be shown to be harmless")


@pytest.mark.parametrize("sizes", [[1 << 40, 1, 1, 1], [4, 3, 3, 4], [-1, 3, 3, 3]])
def test_a_weight_that_is_larger_than_its_entry(tmp_path: Path, sizes: list[int]) -> None:
    path = tmp_path / "net.pt2"

    def edit(config: Any) -> None:
        first = next(iter(config["config"].values()))
        first["tensor_meta"].update(sizes=[{"as_int": n} for n in sizes])

    rewrite(BEFORE, path, {"data/weights/model_weights_config.json": edit_json(edit)})
    assert_refused(path, match="the weight .* (is larger than its entry|has a negative size)")


def test_trust_opens_the_file_as_it_is(tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.pt2"
    shutil.copy(BEFORE, path)
    assert load(path, trusted=True)(np.zeros((1, 3, 16, 16), np.float32)).logits.shape == (1, 3)
    rewrite(BEFORE, path, edit_graph(lambda program: program.update(guards_code=[f"{write_marker(marker)} or True"])))
    load(path, trusted=True)(np.zeros((1, 3, 16, 16), np.float32))
    assert marker.exists(), "trusted=True is no promise"
