"""The coarse copy of a photo in a record."""

import numpy as np
import pytest

from explainable_model.artifact.coarse_photo import expand_coarse, make_coarse


@pytest.mark.parametrize(
    ("lowest", "highest", "most"), [(0, 4095, 9), (1000, 1400, 1), (0, 65535, 129), (65000, 65535, 2), (5, 5, 0)]
)
def test_a_photo_of_16_bits_keeps_its_levels(lowest: int, highest: int, most: int) -> None:
    photo = np.tile(np.linspace(lowest, highest, 64), (8, 1)).astype(np.uint16)
    coarse = make_coarse(photo, 1, "NHW")
    found = expand_coarse(coarse, photo.shape, "uint16", 2, "NHW")
    assert found.dtype == np.uint16
    assert np.abs(found[0].astype(int) - photo).max() <= most
    assert (found[1] == found[0][:, ::-1]).all(), "every second image is mirrored"


def test_a_photo_of_8_bits_stays_as_it_is() -> None:
    photo = np.arange(256, dtype=np.uint8).reshape(16, 16)
    coarse = make_coarse(photo, 1, "NHW")
    assert (coarse.low, coarse.high) == (0, 255)
    assert (expand_coarse(coarse, photo.shape, "uint8", 1, "NHW")[0] == photo).all()
