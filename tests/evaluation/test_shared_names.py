"""Photos of one name in several folders, as in a tree with a folder per class."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import InputError
from explainable_model.evaluation import evaluate
from tests.support import cli_nets


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Four photos named 1.png, each with a mask of its own at the same place of another tree."""
    paths = []
    for number, name in enumerate("abcd"):
        rng = np.random.default_rng(number)
        mask = np.zeros((48, 64), np.uint8)
        mask[4 + 8 * number : 20 + 8 * number, 8 + 10 * number : 26 + 10 * number] = 255
        pixels = np.where(mask[..., None] > 0, 220, rng.integers(0, 90, (48, 64, 3))).astype(np.uint8)
        for tree, values in (("photos", pixels), ("masks", mask)):
            (tmp_path / tree / name).mkdir(parents=True)
            Image.fromarray(values).save(tmp_path / tree / name / "1.png")
        paths.append(tmp_path / "photos" / name / "1.png")
    return paths


def test_each_photo_is_counted_and_takes_its_own_mask(paths: list[Path], tmp_path: Path) -> None:
    named = cli_nets.named()
    arrays = {str(path): np.asarray(Image.open(tmp_path / "masks" / path.parent.name / "1.png")) for path in paths}
    alone = [evaluate(named, path, measures=["iou"], masks={"1.png": arrays[str(path)]}) for path in paths]
    wanted = [found.rows[0]["values"]["iou"] for found in alone]
    assert len(set(wanted)) > 1
    for masks in (tmp_path / "masks", arrays, {Path(path): mask for path, mask in arrays.items()}, arrays.get):
        found = evaluate(named, paths, measures=["iou"], masks=masks)
        rows = [row for row in found.rows if row["candidate"] == found.rows[0]["candidate"]]
        assert "Means of 4 photos" in str(found)
        assert [row["photo"] for row in rows] == [str(path) for path in paths]
        assert [row["values"]["iou"] for row in rows] == wanted


def test_a_mask_by_a_shared_name_is_refused(paths: list[Path], tmp_path: Path) -> None:
    mask = np.asarray(Image.open(tmp_path / "masks" / "a" / "1.png"))
    with pytest.raises(InputError, match="expected one by its path, since another photo has its name"):
        evaluate(cli_nets.named(), paths, measures=["iou"], masks={"1.png": mask})
    with pytest.raises(InputError, match=r"masks.a.a has no mask 1\.png"):
        evaluate(cli_nets.named(), paths, measures=["iou"], masks=tmp_path / "masks" / "a")
