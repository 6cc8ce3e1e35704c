"""Reads the metadata of an ExecuTorch program, a flatbuffer, without running the method that returns it."""

import struct
from pathlib import Path

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.format import foreign_file
from explainable_model.exporters.guard.archive import MAX_TEXT
from explainable_model.exporters.guard.flatbuffer import Flatbuffer

MAX_HEADER, MAX_PROGRAM = 64, 2**30
IDENTIFIER, HEADER = b"ET12", b"eh00"
PLANS, PLAN_NAME, PLAN_VALUES, PLAN_OUTPUTS = 1, 0, 2, 4  # fields of Program and ExecutionPlan in program.fbs
VALUE_KIND, VALUE, STRING, STRING_TEXT = 0, 1, 6, 0  # fields of EValue, and its kind and field for texts


def read_program_metadata(path: Path) -> str:
    """The text that the program's method ``METADATA_KEY`` returns.

    Raises:
        ArtifactError: the file is no program, is damaged, or was not made by this library.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEADER)
            if content[4:8] != IDENTIFIER:
                raise ValueError("its first bytes are those of another format")
            content += file.read(_find_length(content, path.stat().st_size) - len(content))
        text = _find_text(Flatbuffer(content))
    except (OSError, struct.error, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or not an ExecuTorch program ({error}); export it again.") from error
    if text is None:
        raise foreign_file(path)
    return text


def _find_length(content: bytes, available: int) -> int:
    """The length of the program without its weights, from the header that ExecuTorch writes behind the first bytes."""
    if content[8:12] != HEADER:
        raise ValueError("it has no header that says how long it is")
    length, program, base = struct.unpack_from("<IQQ", content, 12)
    segments = struct.unpack_from("<Q", content, 32)[0] if length >= 32 else 0
    if max(program, base + segments) > available:
        raise ValueError(f"it has {available} bytes of {max(program, base + segments)}")
    if program > MAX_PROGRAM:
        raise ValueError(f"its program has {program} bytes")
    return int(program)


def _find_text(buffer: Flatbuffer) -> str | None:
    program = buffer.follow(0)
    for plan in map(buffer.follow, buffer.vector(buffer.child(program, PLANS))):
        if buffer.text(buffer.child(plan, PLAN_NAME)) != METADATA_KEY.encode():
            continue
        values = list(buffer.vector(buffer.child(plan, PLAN_VALUES)))
        outputs = [buffer.number("i", position) for position in buffer.vector(buffer.child(plan, PLAN_OUTPUTS))]
        value = buffer.follow(values[outputs[0]]) if outputs and 0 <= outputs[0] < len(values) else None
        kind = None if value is None else buffer.field(value, VALUE_KIND)
        holder = None if value is None else buffer.child(value, VALUE)
        if kind is None or holder is None or buffer.number("B", kind) != STRING:
            raise ValueError("its metadata is no text")
        text = buffer.text(buffer.child(holder, STRING_TEXT))
        if len(text) > MAX_TEXT:
            raise ValueError(f"its metadata has {len(text)} bytes")
        return text.decode("utf-8")
    return None
