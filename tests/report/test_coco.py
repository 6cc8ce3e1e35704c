"""The boxes of a run, read back by COCO's own package."""

from pathlib import Path

import numpy as np
import pytest

from explainable_model.errors import InputError
from explainable_model.report import write_coco
from tests.support.cli_run import Run
from tests.support.run_folders import blob, make_row, write_run


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools with NumPy 2
def test_pycocotools_reads_the_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    rows = [
        make_row("a.jpg", blob(3, 3), class_idx=2, score=0.75, half_max_box=[16.0, 8.0, 48.0, 40.0]),
        make_row("b.jpg", error="truncated"),
        make_row("c.jpg", np.zeros((7, 7)), half_max_box=None),
        make_row("d.jpg", blob(0, 0), half_max_box=[-5.0, -5.0, 10.0, 900.0]),
        make_row("e.jpg", blob(0, 0), half_max_box=[5.0, 5.0, 5.0, float("nan")]),
    ]
    done = Run(
        capsys, "report", write_run(tmp_path / "run", rows), "-o", tmp_path / "r.html", "--coco", tmp_path / "c.json"
    )
    assert done.code == 0
    assert "(2 boxes)" in done.out
    read = coco.COCO(str(tmp_path / "c.json"))
    assert [image["file_name"] for image in read.loadImgs(read.getImgIds())] == [row["id"] for row in rows]
    assert [one["name"] for one in read.loadCats(read.getCatIds())] == ["cat", "dog", "owl"]
    first, other = read.loadAnns(read.getAnnIds())
    assert (first["bbox"], first["score"], first["category_id"]) == ([16, 8, 32, 32], 0.75, 2)
    mask = read.annToMask(first)
    assert mask.shape == (48, 64)
    assert mask[8:40, 16:48].all()
    assert mask.sum() == 32 * 32 == first["area"]
    assert other["bbox"] == [0, 0, 10, 48], "a box ends at the edges of its photo"
    assert read.getAnnIds(imgIds=[2, 3, 5]) == []


def test_there_must_be_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no run"):
        write_coco(tmp_path, tmp_path / "coco.json")
