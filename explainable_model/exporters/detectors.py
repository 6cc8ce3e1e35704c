"""What artifacts of detectors do not have yet."""

from pathlib import Path

from explainable_model.artifact.metadata import Profile
from explainable_model.errors import InputError
from explainable_model.exporters.format import Format

BOX_FORMATS = ("onnx", "torchscript", "pt2")
"""The formats that detectors are written in."""


def check_detector(
    fmt: Format, path: Path, *, dynamic_size: bool, render: object, profile: Profile, precision: str | None
) -> None:
    """Refuse what artifacts of detectors do not have yet, before any work is done.

    Raises:
        InputError: the option to leave out, or the formats to choose from.
    """
    asked = {"dynamic_size": dynamic_size, "render": render, "precision": precision, "profile": profile != "full"}
    name = next((name for name, value in asked.items() if value), None)
    if name is not None:
        raise InputError(f"{name}= is not for detectors yet: leave it out.")
    if fmt.name not in BOX_FORMATS:
        raise InputError(f"{path.name}: detectors are written as {', '.join(BOX_FORMATS)} for now, not as {fmt.name}.")
