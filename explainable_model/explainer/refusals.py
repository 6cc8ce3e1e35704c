"""Refuses what belongs to detectors where one class of a photo is explained."""

from explainable_model.errors import InputError
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Preprocess


def refuse_boxes(has_boxes: bool, name: str) -> None:
    """Refuse a detector where one class of a photo is explained.

    Raises:
        InputError: it is one.
    """
    if has_boxes:
        raise InputError(
            f"{name} finds boxes, each with a map, which explain(...) and the command explain read; expected a "
            "classifier here."
        )


def refuse_border(preprocess: Preprocess | AsDecoded) -> None:
    """Refuse a preparation with a border where no boxes are explained.

    Raises:
        InputError: there is a border.
    """
    if isinstance(preprocess, Preprocess) and preprocess.pad is not None:
        raise InputError(
            f"pad={preprocess.pad:.3g} puts a border around the photo, which is for detectors: add task='detection', "
            "or leave it out."
        )
