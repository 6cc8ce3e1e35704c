"""``grid``: what stands in which cell."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import explainable_model as xm
from explainable_model.errors import InputError
from tests.support import cli_nets
from tests.support.nets import TinyResNet, seeded


@pytest.fixture(scope="module")
def named() -> xm.NamedModel:
    return cli_nets.named()


def cells(figure: Any, columns: int) -> list[list[Any]]:
    axes = [axis for axis in figure.axes if axis.get_subplotspec() is not None]
    return [axes[start : start + columns] for start in range(0, len(axes), columns)]


def test_photos_by_methods(photos: list[Path], named: xm.NamedModel) -> None:
    figure = xm.grid(photos, named, methods=["gradcam", "hirescam", "legrad"], target_layer="layer2")
    rows = cells(figure, 4)
    assert len(rows) == len(photos)
    for row, path in zip(rows, photos, strict=True):
        assert row[0].get_title() == path.name
        for cell, method in zip(row[1:3], ("gradcam", "hirescam"), strict=True):
            answer = xm.explain(path, named, method=method, target_layer="layer2")
            assert np.array_equal(cell.images[0].get_array(), np.asarray(answer.overlay()))
            assert cell.get_title() == answer.label
        assert not row[3].images
        assert "attention" in row[3].texts[0].get_text(), "the cell says why the method does not fit"
    assert [cell.texts[-1].get_text() for cell in rows[0][1:3]] == ["gradcam", "hirescam"]
    with Image.open(io.BytesIO(figure._repr_png_())) as shown:
        assert shown.width > shown.height


def test_photos_by_classes_layers_and_networks(photos: list[Path], named: xm.NamedModel) -> None:
    (row,) = cells(xm.grid(photos[0], named, classes=["tiger cat", 3], target_layer="layer2"), 3)
    for cell, class_idx in zip(row[1:], (1, 3), strict=True):
        wanted = xm.explain(photos[0], named, class_idx, target_layer="layer2").overlay()
        assert np.array_equal(cell.images[0].get_array(), np.asarray(wanted))
    (row,) = cells(xm.grid(photos[0], named, layers=["layer1", "layer2"], class_idx=2), 3)
    for cell, layer in zip(row[1:], ("layer1", "layer2"), strict=True):
        wanted = xm.explain(photos[0], named, 2, target_layer=layer).overlay()
        assert np.array_equal(cell.images[0].get_array(), np.asarray(wanted))
    other = seeded(TinyResNet(5), seed=1)
    networks = {"old": named.model, "new": other}
    (row,) = cells(xm.grid(photos[0], networks, preprocess=named.preprocess), 3)
    for cell, network in zip(row[1:], networks.values(), strict=True):
        wanted = xm.explain(photos[0], network, preprocess=named.preprocess).overlay()
        assert np.array_equal(cell.images[0].get_array(), np.asarray(wanted))


def test_what_is_no_grid_is_refused(photos: list[Path], named: xm.NamedModel) -> None:
    with pytest.raises(InputError, match="columns of methods and classes; expected one of them"):
        xm.grid(photos, named, methods=["gradcam"], classes=[1])
    with pytest.raises(InputError, match=r"0 photo\(s\) and 1 column\(s\)"):
        xm.grid([], named)
    with pytest.raises(InputError, match="expected at most 400"):
        xm.grid([Image.new("RGB", (8, 8))] * 201, named, classes=[0, 1])
