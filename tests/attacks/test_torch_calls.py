"""Files of PyTorch whose calls take memory that no record justifies: refused by ``load``, or before the call."""

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import load
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import UntrustedArtifactError
from explainable_model.lowering.capture.export import quiet_export
from tests.support.hostile import GOOD, PROGRAM, edit_json, metadata_text, rewrite

GRAPH = "code/__torch__/torch/fx/graph_module.py"
RELU, CONV = "torch.relu(_2_conv2d)", "_2_conv2d"
SIDE = f"torch.size({CONV}, 2)"
TWICE = f"torch.mul({SIDE}, torch.mul({SIDE}, 1000000000))"
ROW = f"torch.slice(torch.flatten({CONV}), 0, 0, 1)"
MANY = f"torch.repeat({CONV}, [999, 1, 1, 1])"


def write_script(path: Path, value: str, before: str = "") -> Path:
    """The good file with another value in place of an activation."""

    def change(content: bytes) -> bytes:
        line = f"    _3_relu = {RELU}\n"
        assert line in content.decode()
        return content.decode().replace(line, f"{before}    _3_relu = {value}\n").encode()

    return rewrite(GOOD / "before.ts", path, {GRAPH: change})


@pytest.mark.parametrize(
    "value",
    [
        f"torch.zeros([{TWICE}])",
        f"torch.full([{TWICE}], 0.5)",
        f"torch.arange({TWICE})",
        f"torch.repeat_interleave({CONV}, 1000000000)",
        f"torch.upsample_nearest2d({CONV}, [torch.mul({SIDE}, 100000), torch.mul({SIDE}, 100000)])",
        f"torch.constant_pad_nd({CONV}, [0, {TWICE}])",
        f"torch.relu(torch.expand({ROW}, [{TWICE}]))",
        f"torch.sum(torch.expand({ROW}, [{TWICE}]))",
        f"torch.outer(torch.flatten({MANY}), torch.flatten({MANY}))",
    ],
)
def test_a_script_that_takes_a_terabyte(tmp_path: Path, value: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = write_script(tmp_path / "net.ts", value)
    with pytest.raises(UntrustedArtifactError, match="harmless: a call would take [0-9]+ GiB of memory"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
    assert load(path, trusted=True).metadata.format == "torchscript"


def test_many_results_that_are_kept(tmp_path: Path) -> None:
    """Each is allowed, and together they are not."""
    lines = "".join(f"    part{n} = torch.ones([268435455])\n" for n in range(40))
    summed = "torch.sum(torch.stack([" + ", ".join(f"torch.sum(part{n})" for n in range(40)) + "]))"
    with pytest.raises(UntrustedArtifactError, match="harmless: a call would take 3[0-9] GiB of memory"):
        load(write_script(tmp_path / "net.ts", summed, lines))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            f"torch.zeros([int(torch.item(torch.sum({CONV})))])",
            "nothing tells how much memory a call takes: values of the image decide about sizes",
        ),
        (f"torch.zeros(torch.mul([1], {TWICE}))", "its code joins or repeats lists"),
        (f"torch.zeros(torch.add([{SIDE}], [{SIDE}]))", "its code joins or repeats lists"),
        (f"torch.tensor_split({CONV}, {TWICE})[0]", "cuts a tensor into more than 65536 parts"),
        (f"torch.chunk(torch.slice({CONV}, 0, 0, 0), {TWICE})[0]", "cuts a tensor into more than 65536 parts"),
    ],
)
def test_a_script_whose_memory_nothing_tells(tmp_path: Path, value: str, message: str) -> None:
    with pytest.raises(UntrustedArtifactError, match=f"harmless: (a call )?{message}"):
        load(write_script(tmp_path / "net.ts", value))


def test_lists_that_double(tmp_path: Path) -> None:
    """PyTorch would write out every item of the last list, before anything runs."""
    lines = f"    list0 = [{SIDE}]\n"
    lines += "".join(f"    list{n + 1} = torch.add(list{n}, list{n})\n" for n in range(40))
    with pytest.raises(UntrustedArtifactError, match="its code joins or repeats lists"):
        load(write_script(tmp_path / "net.ts", "torch.zeros([torch.len(list40)])", lines))


def test_texts_that_double(tmp_path: Path) -> None:
    lines = '    text0 = "xxxxxxxxxxxxxxxx"\n'
    lines += "".join(f'    text{n + 1} = torch.format("{{}}{{}}", text{n}, text{n})\n' for n in range(40))
    with pytest.raises(UntrustedArtifactError, match="its code writes a text into a text"):
        load(write_script(tmp_path / "net.ts", "torch.zeros([torch.len(text40)])", lines))


def test_a_size_that_another_batch_makes(tmp_path: Path) -> None:
    """The file is harmless at the recorded size, and a call on three images would take a terabyte."""
    lines = (
        f"    if torch.eq(torch.size(image, 0), 3):\n      grown = torch.zeros([{TWICE}])\n"
        "    else:\n      grown = torch.zeros([1])\n"
    )
    session = load(write_script(tmp_path / "net.ts", f"torch.add({RELU}, torch.sum(grown), alpha=0)", lines))
    image = np.zeros((4, 3, 16, 16), np.float32)
    assert session(image[:2]).logits.shape == (2, 3)
    assert session(image).logits.shape == (4, 3)
    with pytest.raises(UntrustedArtifactError, match="harmless: a call would take [0-9]+ GiB of memory"):
        session(image[:3])


class Grows(nn.Module):
    """Answers as its record says, and takes any amount of memory on the way."""

    def __init__(self, grow: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.grow = grow
        self.layer = nn.Linear(16, 3)

    def forward(self, image: Tensor, class_idx: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = self.layer(image[:, 0, 0]) + self.grow(image).sum() * 0
        return logits, class_idx.clamp(min=0), image[:, 0] * 1


def write_program(path: Path, grow: Callable[[Tensor], Tensor]) -> Path:
    batch = torch.export.Dim("batch", min=1, max=64)
    inputs = torch.zeros(2, 3, 16, 16), torch.zeros(2, dtype=torch.int64)
    shapes = ({0: batch}, {0: batch})
    with quiet_export():
        program = torch.export.export(Grows(grow).eval(), inputs, dynamic_shapes=shapes)
        torch.export.save(program, path, extra_files={METADATA_KEY: metadata_text(GOOD / "before.pt2")})
    return path


@pytest.mark.parametrize(
    "grow",
    [
        lambda image: torch.zeros(image.shape[0] * 10**11),
        lambda image: torch.arange(image.shape[0] * 10**10).float(),
        lambda image: torch.nn.functional.interpolate(image, size=(10**4, 10**4)).repeat(9, 9, 1, 1),
        lambda image: torch.outer(image.repeat(99, 9, 9, 9).flatten(), image.repeat(99, 9, 9, 9).flatten()),
        lambda image: image.flatten()[:1].expand(image.shape[0] * 10**11) + 1,
    ],
)
def test_a_program_that_takes_a_terabyte(tmp_path: Path, grow: Callable[[Tensor], Tensor]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = write_program(tmp_path / "net.pt2", grow)
    with pytest.raises(UntrustedArtifactError, match="harmless: a call would take [0-9]+ GiB of memory"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB
    assert load(path, trusted=True).metadata.format == "pt2"


def test_a_program_that_the_record_justifies(tmp_path: Path) -> None:
    path = write_program(tmp_path / "net.pt2", lambda image: image.repeat(1, 1, 20, 20))
    assert load(path)(np.zeros((2, 3, 16, 16), np.float32)).logits.shape == (2, 3)


def edit_size(edit: Callable[[list[Any], int], None]) -> dict[str, Any]:
    """Edit the list of nodes at the first function on sizes."""

    def change(program: Any) -> None:
        nodes = program["graph_module"]["graph"]["nodes"]
        edit(nodes, next(n for n, node in enumerate(nodes) if node["target"].startswith("_operator.mul")))

    return {PROGRAM: edit_json(change)}


def repeat_list(nodes: list[Any], place: int) -> None:
    nodes[place]["inputs"][0]["arg"] = {"as_ints": [1] * 100}


def square(nodes: list[Any], place: int) -> None:
    first = nodes[place]
    for _ in range(5):
        name = first["outputs"][0]["as_sym_int"]["as_name"]
        value = {"as_sym_int": {"as_name": name}}
        inputs = [{"name": each, "arg": value, "kind": 1} for each in ("a", "b")]
        first = {**first, "inputs": inputs, "outputs": [{"as_sym_int": {"as_name": f"{name}_more"}}]}
        place += 1
        nodes.insert(place, first)


@pytest.mark.parametrize(("edit", "message"), [(repeat_list, "which is no number"), (square, "more than 16 sizes")])
def test_sizes_that_python_computes(tmp_path: Path, edit: Callable[[list[Any], int], None], message: str) -> None:
    path = write_program(tmp_path / "net.pt2", lambda image: torch.zeros(image.shape[0] * 9))
    load(path)
    with pytest.raises(UntrustedArtifactError, match=message):
        load(rewrite(path, tmp_path / "more.pt2", edit_size(edit)))
