"""The formats an explanation can be exported to: one file each, and the table of them."""

from collections.abc import Mapping
from pathlib import Path

from explainable_model.errors import ArtifactError
from explainable_model.exporters.aotinductor import AOTINDUCTOR
from explainable_model.exporters.executorch import EXECUTORCH
from explainable_model.exporters.format import Format
from explainable_model.exporters.onnx import ONNX
from explainable_model.exporters.openvino import OPENVINO
from explainable_model.exporters.pt2 import PT2
from explainable_model.exporters.torchscript import TORCHSCRIPT

FORMATS: Mapping[str, Format] = {
    "torchscript": TORCHSCRIPT,
    "onnx": ONNX,
    "pt2": PT2,
    "aotinductor": AOTINDUCTOR,
    "openvino": OPENVINO,
    "executorch": EXECUTORCH,
}


def format_of(path: str | Path, name: str | None = None) -> Format:
    """The format of that name, or the one that a file's suffix stands for.

    Raises:
        ArtifactError: no such format; the known ones are listed.
    """
    known = ", ".join(f"{fmt.name} ({', '.join(fmt.suffixes)})" for fmt in FORMATS.values())
    if name is not None:
        if name not in FORMATS:
            raise ArtifactError(f"Unknown format {name!r}; known formats: {known}.")
        return FORMATS[name]
    fmt = format_by_suffix(path)
    if fmt is None:
        suffix = Path(path).suffix.lower()
        raise ArtifactError(f"{path} has the suffix {suffix!r}, which stands for no format; known formats: {known}.")
    return fmt


def format_by_suffix(path: str | Path) -> Format | None:
    """The format of the longest suffix that fits the name: ``.aoti.pt2`` is not ``.pt2``."""
    suffixes = {suffix: fmt for fmt in FORMATS.values() for suffix in fmt.suffixes}
    fitting = [suffix for suffix in suffixes if Path(path).name.lower().endswith(suffix)]
    return suffixes[max(fitting, key=len)] if fitting else None
