"""Paths as users write them."""

from pathlib import Path

import pytest

from explainable_model.errors import InputError
from explainable_model.paths import as_path


def test_texts_and_paths_are_paths() -> None:
    assert as_path("net.onnx") == as_path(Path("net.onnx")) == Path("net.onnx")


@pytest.mark.parametrize("value", [None, 3, b"net.onnx", ["net.onnx"]])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(InputError, match="expected str or Path"):
        as_path(value)
