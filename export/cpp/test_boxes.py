"""Detectors in the C++ programs: the boxes and the maps that Python finds, squashed and in a letterbox."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kits import Kit
from PIL import Image

from explainable_model import explain


@pytest.mark.parametrize("pad", [0.5, None], ids=["letterbox", "squashed"])
def test_boxes_and_maps_are_those_of_python(
    kit: Kit, pad: float | None, cells: Callable[..., Path], squares: Path, tmp_path: Path
) -> None:
    artifact = cells(kit.suffix, pad)
    want = explain(squares, artifact)
    got = kit.explain(squares, artifact, "-o", tmp_path / "drawn.png", "--npy", tmp_path / "maps.npy")
    assert (got["task"], got["seen"]) == ("detection", [0, 0, 192, 96])
    assert len(got["boxes"]) == len(want) > 1
    for box, expected in zip(got["boxes"], want.list_boxes(), strict=True):
        assert (box["class_idx"], box["class_name"]) == (expected["class_idx"], expected["class_name"])
        np.testing.assert_allclose(box["box"], expected["box"], atol=1e-3)
        np.testing.assert_allclose(box["hottest"], expected["hottest"], atol=1e-3)
        assert abs(box["score"] - expected["score"]) < 1e-4
    maps = np.load(tmp_path / "maps.npy")
    assert maps.shape == want.cam.shape
    assert np.abs(maps - want.cam).max() < 1e-4
    with Image.open(tmp_path / "drawn.png") as drawn:
        pixels = np.asarray(drawn)
    assert pixels.shape == (96, 192, 3)
    left, top, right, _ = map(round, got["boxes"][0]["box"])
    assert pixels[top, (left + right) // 2].tolist() == [255, 38, 38]  # the color of the first box


def test_one_box_and_no_box(kit: Kit, cells: Callable[..., Path], squares: Path, tmp_path: Path) -> None:
    artifact = cells(kit.suffix, 0.5)
    whole = kit.explain(squares, artifact)["boxes"]
    assert kit.explain(squares, artifact, "--box", 1)["boxes"] == whole[1:2]
    assert kit.explain(squares, artifact, "--box", 3)["boxes"] == []  # the fourth of three
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "nothing.png")
    outputs = ("-o", tmp_path / "drawn.png", "--npy", tmp_path / "maps.npy")
    assert kit.explain(tmp_path / "nothing.png", artifact, *outputs)["boxes"] == []
    assert np.load(tmp_path / "maps.npy").shape == (0, 0, 0)
    assert kit.run("explain", squares, artifact).stdout.startswith(f"{squares}: green ")
    assert "--box is 4; expected the rank of a box, 0 to 3" in kit.refuses(squares, artifact, "--box", 4)
    assert "this artifact finds boxes" in kit.refuses(squares, artifact, "--class", "red")
    assert kit.explain(squares, artifact, "--bench", "--calls", 3)["bench"]["calls"] == 3
