"""An artifact holds the checksum of its own files: a changed bit, or a half of another export, is noticed."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from explainable_model import ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.checksum import ALGORITHM, UNWRITTEN, write_checksum
from explainable_model.errors import ArtifactError
from explainable_model.exporters import onnx
from tests.support.cli_run import Run
from tests.support.nets import TinyResNet, images, seeded

EARLIER = Path(__file__).parents[1] / "data"


def test_it_is_the_hash_of_the_file_before_it_was_written(artifacts: dict[str, Path]) -> None:
    path = artifacts["onnx"]
    checksum = str(read_metadata(path).checksum)
    before = path.read_bytes().replace(checksum.encode(), UNWRITTEN.encode())
    assert before != path.read_bytes()
    assert ALGORITHM + hashlib.sha256(before).hexdigest() == checksum


@pytest.mark.parametrize("suffix", ["ts", "pt2"])
def test_an_archive_stays_whole(suffix: str, artifacts: dict[str, Path]) -> None:
    with zipfile.ZipFile(artifacts[suffix]) as archive:
        assert archive.testzip() is None
        assert archive.getinfo("archive/extra/explainable_model.json") is not None


def test_a_small_change_of_a_weight_is_found(
    artifacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix, path in artifacts.items():
        changed, content = tmp_path / path.name, bytearray(path.read_bytes())
        place = content.find(_some_weight(path))
        content[place] ^= 1  # the last bit of a float32
        changed.write_bytes(content)
        if suffix == "onnx":
            load(changed)  # nothing else notices
        with pytest.raises(ArtifactError, match=r"named\..* is damaged, or was changed after the export: the checksum"):
            load(changed, check=True)
        run = Run(capsys, "verify", changed, "--json")
        assert (run.code, run.record["passed"]) == (1, False)
        assert "changed after the export" in run.record["checksum"]
        run = Run(capsys, "verify", path)
        assert (run.code, "It agrees with its checksum and the recorded answer." in run.out) == (0, True)


def _some_weight(path: Path) -> bytes:
    import onnx as library

    model = library.load(path.with_suffix(".onnx"))
    weight = next(each for each in model.graph.initializer if len(each.raw_data) > 100)
    return bytes(weight.raw_data[:32])


@pytest.mark.parametrize("suffix", [".onnx", ".ts", ".pt2"])
def test_an_earlier_artifact_has_none(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = EARLIER / f"before{suffix}"
    assert read_metadata(path).checksum is None
    load(path)
    with pytest.raises(ArtifactError, match="has no checksum recorded; load it without check=True"):
        load(path, check=True)
    run = Run(capsys, "verify", path, "--json")
    assert (run.code, run.record["checksum"]) == (0, "no checksum recorded")
    assert "There is no checksum recorded." in Run(capsys, "verify", path).out


def test_a_file_without_a_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no metadata")
    with pytest.raises(ArtifactError, match="has no place for its checksum"):
        write_checksum(tmp_path / "net.onnx")


@pytest.mark.parametrize("name", ["net.xml", "net.onnx"])
def test_halves_of_two_exports_do_not_load(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx, "PROTOBUF_LIMIT", 0)  # weights lie beside the graph, as those of 2 GiB do
    old, new, mixed, linked = (tmp_path / folder for folder in ("old", "new", "mixed", "linked"))
    for seed, folder in enumerate((old, new)):
        folder.mkdir()
        export(lower(ExplainableModel(seeded(TinyResNet(), seed), "layer2"), images(1)), folder / name)
    weights = name.replace(".xml", ".bin") if name.endswith(".xml") else f"{name}.data"
    assert sorted(file.name for file in new.iterdir()) == sorted([name, weights])
    shutil.copytree(new, mixed)
    shutil.copy(old / weights, mixed)
    with pytest.raises(ArtifactError, match=rf"{name}, or {weights} beside it, is damaged, or was changed after"):
        load(mixed / name)
    assert Run(capsys, "verify", mixed / name).code == 1
    linked.mkdir()
    (linked / name).symlink_to(new / name)
    image = images(1).numpy()
    assert np.array_equal(load(linked / name)(image).cam, load(new / name)(image).cam)
    export(lower(ExplainableModel(seeded(TinyResNet(), 2), "layer2"), images(1)), linked / name)  # replaces both
    assert [file.name for file in linked.iterdir()] == [name]
    assert not np.array_equal(load(linked / name)(image).logits, load(old / name)(image).logits)
    assert Run(capsys, "verify", new / name).code == 0


def test_a_half_that_was_renamed_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "PROTOBUF_LIMIT", 0)
    export(lower(ExplainableModel(seeded(TinyResNet()), "layer2"), images(1)), tmp_path / "net.onnx")
    (tmp_path / "net.onnx").rename(tmp_path / "other.onnx")
    with pytest.raises(ArtifactError, match=r"net\.onnx\.data"):
        load(tmp_path / "other.onnx")
    (tmp_path / "net.onnx.data").rename(tmp_path / "other.onnx.data")
    with pytest.raises(ArtifactError, match=r"net\.onnx\.data"):
        load(tmp_path / "other.onnx")
