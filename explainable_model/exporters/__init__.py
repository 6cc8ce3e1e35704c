"""The formats that an explanation can be exported to: one file each, and the table of them."""

from collections.abc import Mapping
from pathlib import Path

from explainable_model.errors import ArtifactError
from explainable_model.exporters.aotinductor import AOTINDUCTOR
from explainable_model.exporters.executorch import EXECUTORCH
from explainable_model.exporters.format import Format
from explainable_model.exporters.litert import LITERT
from explainable_model.exporters.onnx import ONNX
from explainable_model.exporters.openvino import OPENVINO
from explainable_model.exporters.pt2 import PT2
from explainable_model.exporters.torchscript import TORCHSCRIPT
from explainable_model.spelling import suggest

ROWS = (TORCHSCRIPT, ONNX, PT2, AOTINDUCTOR, OPENVINO, EXECUTORCH, LITERT)
FORMATS: Mapping[str, Format] = {fmt.name: fmt for fmt in ROWS}


def format_of(path: str | Path, name: str | None = None) -> Format:
    """The format of that name, or else the format that the suffix of the file stands for.

    Raises:
        ArtifactError: there is no such format; the message lists the known ones.
    """
    known = ", ".join(f"{fmt.name} ({', '.join(fmt.suffixes)})" for fmt in FORMATS.values())
    if name is not None:
        if name not in FORMATS:
            raise ArtifactError(f"Unknown format {name!r}; known formats: {known}.{suggest(str(name), FORMATS)}")
        return FORMATS[name]
    fmt = format_by_suffix(path)
    if fmt is None:
        suffix = Path(path).suffix.lower()
        raise ArtifactError(f"{path} has the suffix {suffix!r}, which stands for no format; known formats: {known}.")
    return fmt


def format_by_suffix(path: str | Path) -> Format | None:
    """The format whose suffix is the longest that fits the file name: ``.aoti.pt2`` is not ``.pt2``."""
    by_suffix = {suffix: fmt for fmt in FORMATS.values() for suffix in fmt.suffixes}
    fitting = [suffix for suffix in by_suffix if Path(path).name.lower().endswith(suffix)]
    return by_suffix[max(fitting, key=len)] if fitting else None
