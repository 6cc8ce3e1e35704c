"""``inspect`` on ONNX files that are no artifacts."""

import json
from pathlib import Path

import pytest
from onnx import helper

from explainable_model.cli.main import main
from tests.support.onnx_files import model_of, save, small_model, small_nodes, small_weights


def test_what_a_plain_file_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(small_model(metadata={"names": "['a', 'b', 'c', 'd', 'e']"}), tmp_path)
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for line in (
        "input image: float32, N x 3 x 16 x 16",
        "image: channels first",
        "operators: 8: 2 Conv, 2 Relu, 1 BatchNormalization, 1 GlobalAveragePool, 1 Flatten, 1 Gemm",
        "rounded to integers: no",
        "class names: 5, from 'a' to 'e'",
        "preparation: not in the file: --mean, --std",
        f"next: explainable-model layers --model onnx:{path}",
    ):
        assert line in text.splitlines()


def test_the_record_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = [helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]), *small_nodes("t")]
    nodes.insert(3, helper.make_node("Trilu", ["s1"], ["s1b"], domain="com.microsoft"))
    metadata = {"model_info mean_values": "0 0 0", "model_info scale_values": "255 255 255"}
    model = model_of(nodes, small_weights(), ("N", 16, 16, 3), metadata=metadata)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert main(["inspect", str(save(model, tmp_path)), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["artifact"] is False
    assert record["channels_last"]
    assert record["image_shape"] == [3, 16, 16]
    assert record["unread"] == ["com.microsoft:Trilu"]
    assert record["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 16, 16, 3]}]
    assert record["preprocess"]["std"] == [1, 1, 1]


def test_other_files_are_refused_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.onnx").write_bytes(b"PK\x03\x04 a zip archive")
    broken = save(small_model(metadata={"explainable_model.json": "{}"}), tmp_path, "broken.onnx")
    for path in (tmp_path / "odd.onnx", tmp_path / "none.onnx", broken):
        assert main(["inspect", str(path)]) != 0
        assert "explains nothing yet" not in capsys.readouterr().out
