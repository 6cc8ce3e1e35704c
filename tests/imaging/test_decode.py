"""The bytes of a photo are read as its file is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import InputError, LowRangeWarning
from explainable_model.imaging.preprocess import decode_photo, open_photo


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_bytes_and_file_agree(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo{ending}"
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    noise.save(path, exif=exif)
    picture = decode_photo(path.read_bytes(), "photo")
    assert picture.size == (30, 40)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(open_photo(path)))


def test_messages_name_the_photo(tmp_path: Path) -> None:
    path = tmp_path / "film.png"
    Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80)).save(path)
    with pytest.warns(LowRangeWarning, match="^shard#7 has values from 0 to 3999"):
        decode_photo(path.read_bytes(), "shard#7")
    with pytest.raises(InputError, match="^shard#7 cannot be read: .* Is it truncated"):
        decode_photo(path.read_bytes()[: path.stat().st_size // 2], "shard#7", (0, 4000))
    for content in (b"", b"no picture"):
        with pytest.raises(InputError, match="^shard#7 is not a picture"):
            decode_photo(content, "shard#7")
