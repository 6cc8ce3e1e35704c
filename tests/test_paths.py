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


@pytest.mark.parametrize("value", ["s3://bucket/run", Path("s3://bucket/run"), "file:///run", Path("hdfs://host/x")])
def test_the_address_of_a_store_is_refused(value: str | Path) -> None:
    with pytest.raises(
        InputError, match=r"The path is (s3|file|hdfs)://.*, an address; expected a file or a folder of"
    ):
        as_path(value)


def test_what_looks_like_an_address_and_is_none() -> None:
    for name in ("C:/run", "a:b/run", "./s3:/run", "12:/x"):
        assert as_path(name) == Path(name)
