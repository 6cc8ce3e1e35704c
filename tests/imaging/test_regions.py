"""Measures of a map, against cases worked out by hand."""

import numpy as np
import pytest

from explainable_model.errors import InputError
from explainable_model.imaging.regions import compute_share_inside, find_bounding_box

CAM = np.array([[0.0, 0.2, 0.0, 0.0], [0.0, 0.6, 1.0, 0.0], [0.0, 0.4, 0.0, -2.0]])


def test_bounding_box_holds_what_reaches_the_threshold() -> None:
    box = (100.0, 10.0, 140.0, 40.0)  # each value covers 10 x 10 pixels
    assert find_bounding_box(CAM, box) == (110.0, 20.0, 130.0, 30.0)
    assert find_bounding_box(CAM, box, threshold=1.0) == (120.0, 20.0, 130.0, 30.0)
    assert find_bounding_box(CAM, box, threshold=0.1) == (110.0, 10.0, 130.0, 40.0)
    assert find_bounding_box(3 * CAM, box) == find_bounding_box(CAM, box), "the threshold is a share of the maximum"
    assert find_bounding_box(-np.ones((2, 2)), box) is None


def test_share_inside_a_mask() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = True
    assert compute_share_inside(CAM, mask) == pytest.approx(1.6 / 2.2)
    assert compute_share_inside(CAM, np.ones((3, 4))) == 1.0
    assert compute_share_inside(np.zeros((3, 4)), mask) is None


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match=r"threshold is 0; expected a share of the maximum"):
        find_bounding_box(CAM, (0, 0, 4, 3), 0)
    with pytest.raises(InputError, match=r"cam has shape \(1, 3, 4\); expected \(h, w\)"):
        find_bounding_box(CAM[None], (0, 0, 4, 3))
    with pytest.raises(InputError, match=r"mask has shape \(4, 3\); expected \(3, 4\)"):
        compute_share_inside(CAM, np.ones((4, 3)))
    with pytest.raises(InputError, match="The mask is empty"):
        compute_share_inside(CAM, np.zeros((3, 4)))
