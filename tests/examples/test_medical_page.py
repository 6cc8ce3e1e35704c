"""The code of docs/medical.md runs as it stands, on a generated film and a generated volume."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import explainable_model as xm
from explainable_model.cli.main import main
from explainable_model.imaging.secondary_capture import save_secondary_capture

pydicom = pytest.importorskip("pydicom", reason="pydicom is missing: pip install 'explainable-model[dicom]'")
nibabel = pytest.importorskip("nibabel", reason="nibabel is missing: pip install 'explainable-model[nifti]'")
PAGE = (Path(__file__).parents[2] / "docs" / "medical.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save_secondary_capture(Image.effect_noise((60, 50), 60), Path("film.dcm"))
    film = pydicom.dcmread("film.dcm")
    film.PatientName = "Doe^Jane"
    film.save_as("film.dcm")
    values = np.random.default_rng(0).uniform(-1000, 400, (12, 11, 10)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1, 2, 3, 1])), "scan.nii.gz")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    network3d = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
    names: dict[str, Any] = {
        "xm": xm,
        "network": network.eval(),
        "network3d": network3d.eval(),
        "prepare": xm.Preprocess((32, 32)),
    }
    exec(compile(CODE.replace("96, 96, 96", "16, 16, 16"), "docs/medical.md", "exec"), names)
    patients = {name: str(pydicom.dcmread(name).PatientName) for name in ("answer.dcm", "overlay.dcm", "filed.dcm")}
    assert patients == {"answer.dcm": "", "overlay.dcm": "", "filed.dcm": "Doe^Jane"}
    assert nibabel.load("map.nii.gz").shape == values.shape
    with Image.open("slices.png") as montage:
        assert montage.format == "PNG"


def test_folders_hold_dicom_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    save_secondary_capture(Image.effect_noise((60, 50), 60), folder / "a.dcm")
    (folder / "b.dcm").write_bytes(b"no film")
    command = ["explain", str(folder), "--model", "torchvision:squeezenet1_1", "--classes", "2"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out" / "a-overlay.png").exists()
    assert "b.dcm has no DICOM header" in capsys.readouterr().err
