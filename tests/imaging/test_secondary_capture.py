"""Pictures written as DICOM: what they hold, and whom they name."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import explainable_model as xm
from explainable_model.cli.main import main
from explainable_model.errors import InputError
from explainable_model.imaging.secondary_capture import save_secondary_capture

pydicom = pytest.importorskip("pydicom", reason="pydicom is missing: pip install 'explainable-model[dicom]'")

SECRETS = ("Doe", "PID4711X", "19400305", "ACC-9", "Dr. House")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A photo in DICOM that names a patient."""
    source = tmp_path / "Doe-PID4711X.dcm"
    save_secondary_capture(Image.effect_noise((40, 30), 60), source)
    dataset = pydicom.dcmread(source)
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "PID4711X", "19400305"
    dataset.AccessionNumber, dataset.ReferringPhysicianName, dataset.LossyImageCompression = "ACC-9", "Dr. House", "01"
    dataset.BurnedInAnnotation = "NO"
    dataset.save_as(source)
    return source


def explain(film: Path) -> Any:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).eval()
    return xm.explain(film, network, preprocess=xm.Preprocess((24, 24)), class_names=["clear", "opaque"], class_idx=1)


def test_the_pixels_are_those_of_the_picture(film: Path, tmp_path: Path) -> None:
    answer = explain(film)
    path = answer.save(tmp_path / "overlay.dcm", "overlay")
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, np.asarray(answer.overlay()))


def test_nobody_is_named_unless_asked(film: Path, tmp_path: Path) -> None:
    path = explain(film).save(tmp_path / "answer.dcm")
    content, source, written = path.read_bytes(), pydicom.dcmread(film), pydicom.dcmread(path)
    assert [secret for secret in SECRETS if secret.encode() in content] == []
    assert [
        str(element.tag) for element in source if element.VR == "UI" and str(element.value).encode() in content
    ] == [str(source["SOPClassUID"].tag)]
    assert written.PatientName == written.PatientID == written.AccessionNumber == ""
    assert written.PatientIdentityRemoved == "YES"
    assert written.LossyImageCompression == "01"
    assert "opaque" in written.ImageComments
    assert "not for diagnosis" in written.ImageComments


def test_the_caption_names_no_file(film: Path, tmp_path: Path) -> None:
    answer = explain(film)
    pixels = pydicom.dcmread(answer.save(tmp_path / "a.dcm")).pixel_array
    np.testing.assert_array_equal(pixels, np.asarray(answer.panel(caption=answer.label)))
    assert (pixels != np.asarray(answer.panel())).any()


def test_several_answers_name_no_file(film: Path, tmp_path: Path) -> None:
    answer = explain(film)
    several = xm.PhotoExplanations([answer, answer])
    pixels = pydicom.dcmread(several.save(tmp_path / "several.dcm")).pixel_array
    np.testing.assert_array_equal(pixels, np.asarray(several.panel(names=False)))
    assert (pixels != np.asarray(several.panel())).any()


def test_the_patient_on_request(film: Path, tmp_path: Path) -> None:
    source = pydicom.dcmread(film)
    written = pydicom.dcmread(explain(film).save(tmp_path / "answer.dcm", keep_patient=True))
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID"):
        assert written[keyword].value == source[keyword].value
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    (reference,) = written.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert written.PatientIdentityRemoved == "NO"


def test_a_patient_needs_dicom_on_both_sides(film: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.effect_noise((40, 30), 60).save(photo)
    with pytest.raises(InputError, match="keep_patient needs a source in DICOM"):
        explain(photo).save(tmp_path / "answer.dcm", keep_patient=True)
    with pytest.raises(InputError, match="keep_patient belongs to DICOM files"):
        explain(film).save(tmp_path / "answer.png", keep_patient=True)
    assert not (tmp_path / "answer.dcm").exists()
    assert pydicom.dcmread(explain(photo).save(tmp_path / "plain.dcm")).PatientName == ""


def test_every_element_has_its_place(film: Path, tmp_path: Path) -> None:
    """dciodvfy of dicom3tools knows the standard's tables."""
    path = explain(film).save(tmp_path / "answer.dcm")
    try:
        done = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("dciodvfy is missing: apt-get install dicom3tools")
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_the_command_line(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = ["--model", "torchvision:squeezenet1_1", "--classes", "3", "--out", str(tmp_path / "out")]
    assert main(["explain", str(film), *network, "--picture", "dcm"]) == 0
    panel = pydicom.dcmread(tmp_path / "out" / "Doe-PID4711X-panel.dcm")
    assert panel.PatientName == ""
    assert main(["explain", str(film), *network, "--picture", "dcm", "--keep-patient", "--overwrite"]) == 0
    assert pydicom.dcmread(tmp_path / "out" / "Doe-PID4711X-panel.dcm").PatientName == "Doe^Jane"
    assert main(["explain", str(film), *network, "--keep-patient", "--overwrite"]) == 2
    assert "--keep-patient belongs to --picture dcm" in capsys.readouterr().err
