"""Writes pictures as DICOM Secondary Capture images, without what tells whose they are unless that is asked for."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import InputError
from explainable_model.imaging.dicom import Dataset, import_pydicom, is_dicom, quiet_pydicom, read_header
from explainable_model.writing import StagedOutput

if TYPE_CHECKING:
    from PIL.Image import Image

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
MAKER = "explainable_model"
LONGEST_COMMENT = 10240  # characters of ImageComments
COMMENT = "Drawn by a program from the answer of a neural network; not for diagnosis."


def save_secondary_capture(
    picture: "Image", path: Path, *, source: Path | None = None, keep_patient: bool = False, comment: str = ""
) -> Path:
    """Write a picture as a Secondary Capture image: RGB, 8 bits, not compressed.

    Every UID is new. Nothing of the source is copied, not even its UIDs, except whether its pixels have writing in them
    and were compressed with loss. With ``keep_patient``, the patient and the study are those of the source, and the
    file refers to it, so that an archive puts the picture beside it.

    Args:
        picture: what is burned in.
        path: the file, which ends in .dcm.
        source: the photo that is explained; of interest if it is DICOM.
        keep_patient: whether the file says whose it is.
        comment: what the picture shows.

    Raises:
        InputError: ``keep_patient`` without a source in DICOM.
        MissingRuntimeError: pydicom is not installed.
        ArtifactError: the path cannot be written.
    """
    pydicom = import_pydicom(f"{path} is written as DICOM, which")
    header = read_header(source) if source is not None and is_dicom(source) else None
    if keep_patient and header is None:
        raise InputError(f"keep_patient needs a source in DICOM, which names the patient; the photo is {source}.")
    with quiet_pydicom():
        dataset = _make_image(pydicom, picture, comment)
        _describe_source(dataset, header, keep_patient=keep_patient)
        if header is not None and keep_patient:
            _copy_patient(pydicom, dataset, header)
        with StagedOutput(path) as staged:
            dataset.save_as(staged.file, enforce_file_format=True)
            staged.commit()
    return path


def _make_image(pydicom: Any, picture: "Image", comment: str) -> Dataset:
    """Fill in the modules of the Secondary Capture image (PS3.3 A.8.1), of nobody's study."""
    pixels, now = picture.convert("RGB"), datetime.now()
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(prefix=None)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = (pydicom.uid.generate_uid(prefix=None) for _ in range(2))
    for keyword in (*PATIENT, *STUDY):
        setattr(dataset, keyword, "")
    dataset.Modality, dataset.ConversionType, dataset.Manufacturer = "OT", "WSD", MAKER
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.PatientOrientation = None, 1, ""
    dataset.Laterality, dataset.SeriesDescription = "", "Explanation of a prediction"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.ImageComments = f"{comment} {COMMENT}".strip()[:LONGEST_COMMENT]
    dataset.DateOfSecondaryCapture, dataset.TimeOfSecondaryCapture = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    dataset.Rows, dataset.Columns = pixels.height, pixels.width
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    raw = pixels.tobytes()
    dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    return dataset


def _describe_source(dataset: Dataset, header: Dataset | None, *, keep_patient: bool) -> None:
    """Say what is burned in, and whether somebody is named."""
    dataset.PatientIdentityRemoved = "NO" if keep_patient else "YES"
    if not keep_patient:
        dataset.DeidentificationMethod = "Only the pixels of the source were used"
    if header is None:
        return
    if header.get("BurnedInAnnotation"):
        dataset.BurnedInAnnotation = header.BurnedInAnnotation
    if header.get("LossyImageCompression") == "01":
        dataset.LossyImageCompression = "01"


def _copy_patient(pydicom: Any, dataset: Dataset, header: Dataset) -> None:
    """Put the picture beside its source, and refer to it."""
    if header.get("SpecificCharacterSet"):
        header.decode()
    for keyword in (*PATIENT, *STUDY, "StudyInstanceUID"):
        if header.get(keyword):
            setattr(dataset, keyword, header.get(keyword))
    if header.get("SOPClassUID") and header.get("SOPInstanceUID"):
        reference = pydicom.Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        dataset.SourceImageSequence = [reference]
