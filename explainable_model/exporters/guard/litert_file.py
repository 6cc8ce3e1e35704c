"""Reads the metadata of a LiteRT model, a flatbuffer. Needs no runtime."""

import struct
from pathlib import Path

from explainable_model.artifact.limits import MAX_RECORD
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError
from explainable_model.exporters.format import foreign_file
from explainable_model.exporters.guard.flatbuffer import Flatbuffer
from explainable_model.exporters.guard.refusal import Refusal

IDENTIFIER = b"TFL3"
MAX_FILE = 2**31  # bytes of a flatbuffer
CODES, SUBGRAPHS, DESCRIPTION, BUFFERS, METADATA, SIGNATURES = 1, 2, 3, 4, 6, 7  # fields of Model in schema.fbs
NAME, BUFFER, DATA = 0, 1, 0  # fields of Metadata, and of Buffer
TENSORS, OPERATORS, TENSOR_NAME, GRAPH_NAME = 0, 3, 3, 4  # fields of SubGraph and Tensor
MAX_PARTS = 100_000  # operators, tensors or buffers
MAX_NAME = 2000


def read_litert(path: Path) -> tuple[bytes, str]:
    """The content of a file, and its metadata text.

    Raises:
        ArtifactError: the file is no LiteRT model, is damaged, or was not made by this library.
        Refusal: it has more parts, or longer names, than any export writes.
    """
    try:
        if path.stat().st_size >= MAX_FILE:
            raise ValueError(f"it has {path.stat().st_size} bytes, more than a flatbuffer can have")
        content = path.read_bytes()
        if content[4:8] != IDENTIFIER:
            raise ValueError("its first bytes are those of another format")
        buffer = Flatbuffer(content)
        _check_lengths(buffer)
        text = _find_text(buffer)
    except (OSError, struct.error, ValueError) as error:
        raise ArtifactError(f"{path} is damaged or not a LiteRT model ({error}); export it again.") from error
    if text is None:
        raise foreign_file(path)
    return content, text


def _find_text(buffer: Flatbuffer) -> str | None:
    model = buffer.follow(0)
    buffers = list(buffer.vector(buffer.child(model, BUFFERS)))
    for entry in map(buffer.follow, buffer.vector(buffer.child(model, METADATA))):
        if buffer.text(buffer.child(entry, NAME)) != METADATA_KEY.encode():
            continue
        position = buffer.field(entry, BUFFER)
        number = 0 if position is None else buffer.number("I", position)
        if number >= len(buffers):
            raise ValueError("its metadata lies in a buffer that it does not have")
        text = buffer.text(buffer.child(buffer.follow(buffers[number]), DATA))
        if len(text) > 4 * MAX_RECORD:
            raise ValueError(f"its metadata has {len(text)} bytes")
        return text.decode("utf-8")
    return None


def _check_lengths(buffer: Flatbuffer) -> None:
    """Bound what reading the file as objects makes: parts may share one long name."""
    model = buffer.follow(0)
    graphs = [buffer.follow(position) for position in _parts(buffer, model, SUBGRAPHS)]
    tables = [*((model, number) for number in (CODES, BUFFERS, METADATA, SIGNATURES))]
    tables += [(graph, number) for graph in graphs for number in (TENSORS, OPERATORS)]
    parts = {where: [buffer.follow(position) for position in _parts(buffer, *where)] for where in tables}
    if sum(map(len, parts.values())) > MAX_PARTS:
        raise Refusal(f"it has more than {MAX_PARTS} parts")
    for table in (table for tables in parts.values() for table in tables):
        buffer.check_table(table)
    names = [buffer.child(model, DESCRIPTION), *(buffer.child(graph, GRAPH_NAME) for graph in graphs)]
    names += [buffer.child(tensor, TENSOR_NAME) for graph in graphs for tensor in parts[graph, TENSORS]]
    names += [buffer.child(entry, NAME) for entry in parts[model, METADATA]]
    if any(name is not None and buffer.number("I", name) > MAX_NAME for name in names):
        raise Refusal(f"a part has a name of more than {MAX_NAME} characters")


def _parts(buffer: Flatbuffer, table: int, number: int) -> list[int]:
    position = buffer.child(table, number)
    if position is not None and buffer.number("I", position) > MAX_PARTS:
        raise Refusal(f"it has more than {MAX_PARTS} parts")
    return list(buffer.vector(position))
