"""Hostile TorchScript files: each does harm in PyTorch's own loader or interpreter, and is refused by ours."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Tuple  # noqa: UP035 - TorchScript reads it

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explainable_model import load
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import UntrustedArtifactError
from explainable_model.exporters.torchscript import quiet_torchscript
from tests.support.hostile import GOOD, assert_refused, metadata_text, rewrite

BEFORE = GOOD / "before.ts"
GRAPH = "code/__torch__/torch/fx/graph_module.py"
CHECK = "code/__torch__/explainable_model/exporters/scripted.py"


class Hostile(nn.Module):
    """Saves a tensor while the file is loaded."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker

    @torch.jit.export
    def __getstate__(self) -> Tuple[str, bool]:  # noqa: UP006
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: Tuple[str, bool]) -> None:  # noqa: UP006
        self.marker = state[0]
        self.training = state[1]
        torch.save(torch.ones(1), self.marker)

    def forward(self, image: Tensor) -> Tensor:
        return image


class Reader(nn.Module):
    """Reads a file of the machine when it is called."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: Tensor) -> Tensor:
        return torch.from_file(self.path, False, 4, dtype=torch.uint8)


class Endless(nn.Module):
    """Never ends."""

    def forward(self, image: Tensor) -> Tensor:
        while bool(image.sum() * 0 == 0):
            image = image * 1
        return image


def save(module: nn.Module, path: Path) -> Path:
    """Write the module as an artifact, with the metadata of a good one."""
    with quiet_torchscript():
        torch.jit.save(torch.jit.script(module.eval()), path, _extra_files={METADATA_KEY: metadata_text(BEFORE)})
    return path


def test_the_good_file_is_accepted() -> None:
    with np.load(GOOD / "before.npz") as expected:
        assert np.abs(load(BEFORE)(expected["image"]).cam - expected["cam"]).max() < 1e-5


def test_a_method_that_runs_while_the_file_is_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    path = save(Hostile(str(marker)), tmp_path / "net.ts")
    assert_refused(path, marker, "cannot be shown to be harmless")
    with quiet_torchscript():
        torch.jit.load(path)
    assert marker.exists(), "the attack is none"


def test_a_module_that_reads_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    path = save(Reader(str(secret)), tmp_path / "net.ts")
    assert_refused(path, match="calls 'torch.from_file'|cannot be shown")
    with quiet_torchscript():
        read = torch.jit.load(path)(torch.ones(1))
    assert bytes(read.numpy()) == b"1234", "the attack is none"


def test_an_endless_module(tmp_path: Path) -> None:
    path = save(Endless(), tmp_path / "net.ts")
    code = f"import explainable_model as e\ne.load({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, text=True)
    assert "UntrustedArtifactError" in done.stderr


def replace(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert old.encode() in content
        return content.replace(old.encode(), new.encode(), 1)

    return change


RELU = "torch.relu(_2_conv2d)"


@pytest.mark.parametrize(
    ("entry", "old", "new", "message"),
    [
        (GRAPH, RELU, "torch.from_file('/etc/passwd')", "calls 'torch.from_file'"),
        (GRAPH, RELU, "ops.image.read_file('/etc/passwd')", "calls 'ops.image.read_file'"),
        (GRAPH, RELU, "torch.set_(_2_conv2d, image)", "calls 'torch.set_'"),
        (GRAPH, RELU, "torch.resize_(_2_conv2d, [9, 9])", "calls 'torch.resize_'"),
        (GRAPH, RELU, "ops.aten.save(_2_conv2d, 'x')", "calls 'ops.aten.save'"),
        (GRAPH, RELU, "torch.zeros([1048576, 1048576])", "holds the sizes"),
        (GRAPH, RELU, "(self).forward(image, class_idx, ).__class__", "Attribute"),
        (GRAPH, "def __code_getter", "def __setstate__", "has the method '__setstate__'"),
        (GRAPH, "class GraphModule(Module)", "class GraphModule(NamedTuple)", "outside of a module"),
        (GRAPH, "    _1_relu =", "    while True:\n      pass\n    _1_relu =", "its code has While"),
        (GRAPH, "    _1_relu =", "    for i in range(999999999):\n      pass\n    _1_relu =", "its code repeats"),
        (CHECK, "range(torch.len(image_shape0))", "range(torch.len(torch.size(image)))", "its code repeats"),
        (CHECK, "image_shape : List[int]", "image_shape : Tensor", "is not of the type 'Tensor'"),
        (CHECK, "top_k : int", "top_k : __torch__.torch.classes.x.Y", "has the type"),
    ],
)
def test_code_that_the_exporter_does_not_write(tmp_path: Path, entry: str, old: str, new: str, message: str) -> None:
    path = rewrite(BEFORE, tmp_path / "net.ts", {entry: replace(old, new)})
    with pytest.raises(UntrustedArtifactError, match=message):
        load(path)


def test_methods_that_call_each_other(tmp_path: Path) -> None:
    call = "(graph).forward(image, (self).ready(image, class_idx, ), )"
    many = f"{call}\n" + "".join(f"    again{n} = {call}\n" for n in range(8))
    path = rewrite(BEFORE, tmp_path / "net.ts", {CHECK: replace(f"{call}\n", many)})
    assert_refused(path, match="call each other more often")


@pytest.mark.parametrize("depth", [60, 3000])
def test_code_that_is_nested_too_deep(tmp_path: Path, depth: int) -> None:
    nested = "torch.relu(" * depth + "_2_conv2d" + ")" * depth
    path = rewrite(BEFORE, tmp_path / "net.ts", {GRAPH: replace(RELU, nested)})
    assert_refused(path, match="nested too deep")


class System:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("entry", ["data.pkl", "constants.pkl"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_a_program(tmp_path: Path, entry: str, protocol: int) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.ts"
    rewrite(BEFORE, path, {entry: pickle.dumps(System(f"touch {marker}"), protocol)})
    assert_refused(path, marker, "its list of weights")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02)r\xff\xff\xff\x7f.", "would fill the memory"),
        (b"\x80\x02c__torch__.torch.classes.quantized\nPacked\n)\x81.", "names '__torch__.torch.classes"),
        (b"\x80\x02).more", "does not end where it says"),
        (b"\x80\x02", "cannot be read|has no end"),
        (b"", "cannot be read"),
        (b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".", "no weight lies|cannot be read"),
        (b"\x80\x02]q\x00h\x00a.", "no weight lies"),
    ],
)
def test_a_pickle_that_is_broken(tmp_path: Path, content: bytes, message: str) -> None:
    assert_refused(rewrite(BEFORE, tmp_path / "net.ts", {"data.pkl": content}), match=message)


@pytest.mark.parametrize("entry", ["data/0", "data/5"])
@pytest.mark.parametrize("content", [b"", b"1234"])
def test_an_entry_of_weights_with_other_bytes(tmp_path: Path, entry: str, content: bytes) -> None:
    """A tensor without its numbers, or with fewer, ends some programs of PyTorch."""
    assert_refused(rewrite(BEFORE, tmp_path / "net.ts", {entry: content}), match="of its weights has")
    assert_refused(rewrite(BEFORE, tmp_path / "net.ts", {entry: None}), match="of its weights has None bytes")


def test_a_tensor_that_reaches_beyond_its_entry(tmp_path: Path) -> None:
    shape = b"K\x04K\x03K\x03K\x03t"
    for longer in (b"K\x04K\x03K\x03K\x05t", b"J\xff\xff\xff\xffK\x03K\x03K\x03t"):
        path = rewrite(
            BEFORE, tmp_path / "net.ts", {"data.pkl": lambda content, new=longer: content.replace(shape, new, 1)}
        )
        assert_refused(path, match="is larger than the entry|of a negative size")


def test_an_entry_that_the_exporter_does_not_write(tmp_path: Path) -> None:
    for name in ("bytecode.pkl", "code/hostile.py", "extra/other", "data/../x", "attributes.pkl"):
        path = rewrite(BEFORE, tmp_path / "net.ts", more={name: b"()"})
        assert_refused(path, match="it has the entry|has the name")


def test_debugging_information_is_never_read(tmp_path: Path) -> None:
    """It is a pickle beside the code, and only PyTorch's error messages need it."""
    marker, path = tmp_path / "it-ran", tmp_path / "net.ts"
    rewrite(BEFORE, path, {f"{GRAPH}.debug_pkl": pickle.dumps(System(f"touch {marker}"))})
    assert load(path)(np.zeros((1, 3, 16, 16), np.float32)).logits.shape == (1, 3)
    assert not marker.exists()


def test_two_directories(tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "net.ts"
    hostile = save(Hostile(str(marker)), tmp_path / "hostile.ts").read_bytes()
    for content in (hostile + BEFORE.read_bytes(), BEFORE.read_bytes() + hostile, b"more" + BEFORE.read_bytes()):
        path.write_bytes(content)
        assert_refused(path, marker, "damaged|harmless")


def test_an_entry_that_says_two_sizes(tmp_path: Path) -> None:
    """The header before the content names other bytes than the directory."""
    path, content = tmp_path / "net.ts", bytearray(BEFORE.read_bytes())
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        second = archive.infolist()[1].header_offset
    struct.pack_into("<H", content, second + 8, zipfile.ZIP_DEFLATED)
    path.write_bytes(content)
    assert_refused(path, match="its directory and the entry", both=True)


def test_trust_opens_the_file_as_it_is(tmp_path: Path) -> None:
    assert load(BEFORE, trusted=True)(np.zeros((1, 3, 16, 16), np.float32)).logits.shape == (1, 3)
    marker = tmp_path / "it-ran"
    load(save(Hostile(str(marker)), tmp_path / "net.ts"), trusted=True)
    assert marker.exists(), "trusted=True is no promise"
