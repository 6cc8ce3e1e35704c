"""Several photos in one call of the program."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from kits import Kit
from PIL import Image


@pytest.fixture
def album(photos: list[Path], tmp_path: Path) -> Path:
    """A folder with five photos, of which one is damaged and one of a kind that the kit does not read, and a text."""
    album = tmp_path / "album"
    (album / "cats").mkdir(parents=True)
    (album / "cats" / "damaged.jpg").write_bytes(b"\xff\xd8\xff no picture")
    shutil.copy(photos[0], album / "cats" / "Chelsea.png")
    Image.open(photos[0]).save(album / "cats" / "chelsea.jpg")
    Image.open(photos[1]).save(album / "coffee.webp")
    shutil.copy(photos[1], album / "coffee.png")
    (album / "notes.txt").write_text("not a photo")
    return album


def test_a_bad_photo_does_not_stop_the_others(kit: Kit, lite0: Path, album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--out", out, "--heatmaps", "--threads", 1, "--jsonl")
    done = kit.run("explain", album, lite0, *options)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    failed = {Path(record["photo"]).name: record["error"] for record in records if "error" in record}
    assert set(failed) == {"damaged.jpg", "coffee.webp"}
    assert done.stderr.splitlines() == [f"error: {failed['damaged.jpg']}", f"error: {failed['coffee.webp']}"]
    answered = [record for record in records if "error" not in record]
    assert [record["class_name"] for record in answered] == ["Egyptian cat", "Egyptian cat", "espresso"]
    names = ("cats/Chelsea-overlay.png", "cats/chelsea-2-overlay.png", "coffee-overlay.png")
    assert [record["overlay"] for record in answered] == [str(out / name) for name in names]
    for record in answered:
        with Image.open(record["overlay"]) as drawn, Image.open(record["photo"]) as photo:
            assert drawn.size == photo.size
        assert np.load(record["heatmap"]).shape == (224, 224)
    refusal = kit.refuses(album, lite0, *options)
    assert "Chelsea-overlay.png exists already; choose another folder with --out" in refusal
    Path(answered[0]["heatmap"]).unlink()
    again = kit.run("explain", album, "--artifact", lite0, "--out", out, "--heatmaps", "--skip-existing", "--json")
    record = json.loads(again.stdout)
    assert ([photo["photo"] for photo in record["photos"]], record["skipped"]) == ([answered[0]["photo"]], 2)
    assert (len(record["errors"]), again.returncode) == (2, 1)


def test_named_photos_stream_in_their_order(
    quick_kit: Kit, lite0_onnx: Path, photos: list[Path], tmp_path: Path
) -> None:
    done = quick_kit.run("explain", photos[1], tmp_path / "none.jpg", photos[0], lite0_onnx, "--class", "TABBY")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{photos[1]}: tabby, ")
    assert second.startswith(f"{photos[0]}: tabby, ")
    assert "There is no file" in done.stderr
    overwritten = ("explain", photos[0], lite0_onnx, "--out", tmp_path / "out", "--overwrite")
    for _ in range(2):
        assert quick_kit.run(*overwritten).stdout.endswith(f" -> {tmp_path / 'out' / 'chelsea-overlay.png'}\n")


def test_mistakes_in_the_request(quick_kit: Kit, lite0_onnx: Path, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for arguments, message in (
        ((*photos, lite0_onnx, "-o", "a.png"), "-o is for one photo; use --out DIR for several."),
        ((*photos, lite0_onnx, "--npy", "a.npy"), "--npy is for one photo; use --out DIR --heatmaps"),
        ((tmp_path, lite0_onnx, "--bench"), "--bench is for one photo."),
        ((photos[0], lite0_onnx, "--skip-existing"), "need --out DIR"),
        ((photos[0], lite0_onnx, "--out", "a.png"), "--out is a.png; expected a folder. -o FILE writes"),
        ((photos[0], lite0_onnx, "--skip-exist"), "There is no option --skip-exist. Nearest: --skip-existing."),
        ((photos[0],), "Got 1 file(s); expected at least one photo and an artifact."),
        (("--artifact", lite0_onnx), "Got 0 file(s); expected at least one photo."),
        ((tmp_path / "empty", lite0_onnx), "holds no photo."),
        ((photos[0], lite0_onnx, "--class", "tabbi"), "There is no class 'tabbi' among 1000. Nearest: tabby (281)"),
        ((photos[0], lite0_onnx, "--class", "1000"), "The class is 1000; expected 0 to 999."),
        ((photos[0], lite0_onnx, "--out", tmp_path / "file" / "out"), "cannot be made"),
    ):
        assert message in quick_kit.refuses(*arguments)
