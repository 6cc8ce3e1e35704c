"""Calling the command line in a test: photos, artifacts, and one call of ``main`` with what it printed."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model.cli.main import main

NAMED = "tests.support.cli_nets:named"


@functools.cache
def exported(folder: Path) -> dict[str, Path]:
    """The same network in every format, made by the command, once."""
    torch.set_num_threads(1)
    folder.mkdir()
    made = {suffix: folder / f"named.{suffix}" for suffix in ("ts", "onnx", "pt2")}
    for path in made.values():
        assert main(["export", "--model", NAMED, "-o", str(path)]) == 0
    return made


@pytest.fixture(name="artifacts")
def artifacts_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By suffix."""
    return exported(tmp_path_factory.getbasetemp() / "artifacts")


@pytest.fixture(name="photos")
def photos_fixture(tmp_path: Path) -> list[Path]:
    """Two photos with one name."""
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / "cat.png")
        rng = np.random.default_rng(ord(folder))
        noise = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        noise.resize((64, 48), Image.Resampling.BILINEAR).save(paths[-1])
    return paths


class Run:
    """One call of ``main`` and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> None:
        capsys.readouterr()
        self.code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        self.out, self.err = printed.out, printed.err

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found
