"""Shows and writes the pictures of answers."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.errors import InputError
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.secondary_capture import save_secondary_capture
from explainable_model.imaging.sheets import PICTURE_FORMATS, save_picture

if TYPE_CHECKING:
    from PIL.Image import Image

DICOM = ".dcm"


@dataclass(frozen=True)
class PhotoRequest:
    """One photo to explain, and the pictures to write of it.

    Attributes:
        photo: as from ``open_photo``.
        path: where it came from.
        class_idx: the class to explain, the first of several; ``None`` for the predicted.
        style: how the pictures are drawn.
        target: an existing folder and the beginning of the file names.
        ending: of the pictures.
        keep_patient: whether DICOM files say whose they are, see ``save_secondary_capture``.
    """

    photo: "Image"
    path: Path
    class_idx: int | None
    style: OverlayStyle
    target: Path
    ending: str = ".png"
    keep_patient: bool = False

    def name_file(self, kind: str) -> Path:
        """The file of a picture: ``<target>-panel.png``."""
        return self.target.with_name(f"{self.target.name}-{kind}{self.ending}")


def show_picture(picture: "Image") -> None:
    """Show a picture in the notebook, or in the system's viewer.

    Raises:
        InputError: there is no viewer.
    """
    if _in_notebook():
        from IPython.display import display

        display(picture)
        return
    from PIL import ImageShow

    if not ImageShow.show(picture):
        raise InputError("This system has no viewer of pictures; write the picture with .save('explained.png').")


def save_answer(
    picture: "Image", path: Path, *, source: Path | None = None, keep_patient: bool = False, comment: str = ""
) -> Path:
    """Write a picture in the format that the ending names.

    Args:
        picture: what is written.
        path: the file.
        source, keep_patient, comment: of a DICOM file, see ``save_secondary_capture``.

    Raises:
        InputError: an unknown ending, or ``keep_patient`` without DICOM.
        MissingRuntimeError: DICOM without pydicom.
        ArtifactError: as ``save_picture``.
    """
    ending = path.suffix.lower()
    if ending == DICOM:
        return save_secondary_capture(picture, path, source=source, keep_patient=keep_patient, comment=comment)
    if ending not in PICTURE_FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}; expected one of {', '.join((*PICTURE_FORMATS, DICOM))}.")
    if keep_patient:
        raise InputError(f"keep_patient belongs to DICOM files; {path} ends in {path.suffix!r}.")
    return save_picture(picture, path)


def choose_stems(photos: Sequence[Path], out: Path) -> list[str]:
    """Choose one file name per photo, so that no picture overwrites another photo's picture or a photo."""
    taken: set[str] = set()
    originals = {photo.resolve() for photo in photos}
    stems = []
    for photo in photos:
        stem, number = photo.stem, 1
        while stem.casefold() in taken or any(
            (out / f"{stem}-{k}.png").resolve() in originals for k in ("panel", "overlay", "methods")
        ):
            number += 1
            stem = f"{photo.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
