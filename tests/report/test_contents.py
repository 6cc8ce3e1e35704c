"""Thumbnails of photos that lie in tars, in Parquet files and in stores: each row gets the picture of its own photo."""

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from explainable_model.batch import explain_data_set
from explainable_model.errors import ArtifactError
from tests.report.test_write_report import write

BEFORE = Path(__file__).parents[1] / "data" / "before.onnx"
COLORS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230), "white": (240, 240, 240)}


def encode(color: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), color).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    """The same photos in a folder, a tar, a Parquet file of two row groups, and a store."""
    place = tmp_path / "data"
    (place / "photos").mkdir(parents=True)
    for name, color in COLORS.items():
        (place / "photos" / f"{name}.png").write_bytes(encode(color))
    with tarfile.open(place / "photos.tar", "w") as archive:
        for path in sorted((place / "photos").iterdir()):
            archive.add(path, path.name)
    table = pyarrow.table({"id": [f"{name}.png" for name in COLORS], "bytes": [*map(encode, COLORS.values())]})
    parquet.write_table(table, place / "photos.parquet", row_group_size=3)
    root = f"file://{place}"
    return {
        "folder": f"{place}/photos",
        "tar": f"{place}/photos.tar",
        "parquet": f"{place}/photos.parquet",
        "store": f"{root}/photos",
        "tar of a store": f"{root}/photos.tar",
        "table of a store": f"{root}/photos.parquet",
    }


def read_colors(content: dict[str, Any]) -> dict[str, list[int]]:
    """The color of each picture, by the name of its photo."""
    found = {}
    for row in content["rows"]:
        picture = Image.open(io.BytesIO(base64.b64decode(row["picture"].split(",")[1])))
        found[row["id"].rpartition("#")[2].removesuffix(".png")] = np.asarray(picture).mean((0, 1)).round().tolist()
    return found


@pytest.mark.parametrize("kind", ["folder", "tar", "parquet", "store", "tar of a store", "table of a store"])
def test_each_row_has_the_picture_of_its_photo(kind: str, sources: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(BEFORE, sources[kind], run, processes=0, part_rows=3)
    report, content = write(run)
    assert not any("picture" in note for note in report.notes)
    colors = read_colors(content)
    assert set(colors) == set(COLORS)
    for name, color in COLORS.items():
        assert np.abs(np.array(colors[name]) - color).max() < 12
    (tmp_path / "data").rename(tmp_path / "moved")
    assert [row["missing"] for row in write(run)[1]["rows"]] == ["the photo was not found"] * 4
    place = tmp_path / "moved" / ("photos" if kind in ("folder", "store") else "")
    assert read_colors(write(run, photos=place)[1]) == colors


def test_a_table_that_changed(sources: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(BEFORE, sources["parquet"], run, processes=0)
    parquet.write_table(pyarrow.table({"bytes": [encode(COLORS["red"])]}), sources["parquet"])
    missing = sorted(row.get("missing", "") for row in write(run)[1]["rows"])
    assert missing == ["", *["the photo cannot be read from photos.parquet, which held it"] * 3]


def test_a_list_of_other_columns(sources: dict[str, str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    explain_data_set(BEFORE, sources["tar"], run, processes=0)
    listed = run / "manifest.parquet"
    table = parquet.read_table(listed)
    parquet.write_table(table.set_column(0, "id", pyarrow.array(range(4))), listed)
    assert [row["missing"] for row in write(run)[1]["rows"]] == ["the photo was not found"] * 4
    parquet.write_table(table.drop_columns(["uri"]), listed)
    with pytest.raises(ArtifactError, match=r"manifest\.parquet is damaged"):
        write(run)
