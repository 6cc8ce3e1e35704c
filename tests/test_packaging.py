"""What is shipped, and what the documents promise."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import explainable_model

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there() -> None:
    for name in explainable_model.__all__:
        assert getattr(explainable_model, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        _ = explainable_model.explian


def test_the_wheel_holds_only_the_package(tmp_path: Path) -> None:
    builder = WheelBuilder(str(ROOT))
    (wheel,) = builder.build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
        assert "explainable_model/py.typed" in archive.namelist()
    assert {name for name in top if not name.endswith(".dist-info")} == {"explainable_model"}


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    smaller = code.replace("resnet50(", "resnet18(").replace("224, 224", "64, 64")
    assert smaller != code
    done = subprocess.run([sys.executable, "-c", smaller], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "(1, 64, 64)\n"
    assert (tmp_path / "resnet50.onnx").stat().st_size > 40_000_000
