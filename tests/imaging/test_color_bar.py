"""The color bar of a panel."""

import numpy as np
import pytest
from PIL import Image

from explainable_model.imaging.preprocess import Preprocess
from explainable_model.imaging.sheets import GAP, MARGIN, NOTE_SIZE, PANE, panel


@pytest.mark.parametrize("signed", [False, True])
def test_the_color_bar_names_its_ends_and_its_middle(signed: bool) -> None:
    values = np.asarray(panel(Image.new("RGB", (32, 32)), np.zeros((2, 2)), "", Preprocess((8, 8)), signed=signed))
    labels = values[-MARGIN - NOTE_SIZE - 5 : -MARGIN, MARGIN + PANE + GAP : MARGIN + 2 * PANE + GAP]
    inked = np.flatnonzero((labels < 200).any((0, 2)))
    texts = np.split(inked, np.flatnonzero(np.diff(inked) > 20) + 1)
    assert len(texts) == 3
    assert texts[0][0] < 4
    assert abs(texts[1].mean() - PANE / 2) < 3
    assert texts[2][-1] > PANE - 5
