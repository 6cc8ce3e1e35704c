"""``explainable-model inspect``: print an artifact's metadata, or what a plain ONNX file says about itself."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import PROGRAM, Console
from explainable_model.cli.outcome import Outcome, format_value
from explainable_model.errors import ArtifactError, ModelError

if TYPE_CHECKING:
    from explainable_model.networks.onnx.describe import FileDescription, FileValue

SHOWN = 8  # types of operators in the text; --json has all


def inspect(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Print an artifact's metadata; of an ONNX file that is none, what it says and what to run next."""
    from explainable_model.runtime import read_metadata

    try:
        metadata = read_metadata(arguments.file)
    except ArtifactError as error:
        return _inspect_plain(arguments.file, error)
    record = metadata.to_dict()
    names, reference = record.pop("class_names"), record.pop("reference")
    if record["preprocess"] and record["preprocess"]["resize"] is None:
        record["preprocess"]["resize"] = "to size, whatever the proportions"
    record["sizes"] = None if metadata.sizes is None else [str(size) for size in metadata.sizes]
    lines = [f"{key}: {format_value(value)}" for key, value in record.items()]
    lines.append(f"class_names: {f'{len(names)}, from {names[0]!r} to {names[-1]!r}' if names else 'not recorded'}")
    lines.append(f"reference answer: {'recorded' if reference else 'not recorded'}")
    return Outcome("\n".join(lines), {"path": str(arguments.file), **metadata.to_dict()})


def _inspect_plain(path: Path, error: ArtifactError) -> Outcome:
    """Describe an ONNX file that is no artifact.

    Raises:
        ArtifactError: it is another file, or an artifact that cannot be read.
    """
    from explainable_model.artifact.metadata import METADATA_KEY

    if path.suffix.lower() != ".onnx" or not path.is_file():
        raise error
    from explainable_model.networks.onnx.describe import describe_file

    try:
        found = describe_file(path)
    except ModelError as reason:
        raise error from reason
    if METADATA_KEY in found.metadata:
        raise error
    return Outcome("\n".join(_write_lines(path, found)), _make_record(path, found))


def _make_record(path: Path, found: "FileDescription") -> dict[str, Any]:
    return {"path": str(path), "artifact": False, **asdict(found), "next": _next(path)}


def _next(path: Path) -> str:
    return f"{PROGRAM} layers --model onnx:{path}"


def _write_lines(path: Path, found: "FileDescription") -> list[str]:
    names, layout = found.class_names, "channels last" if found.channels_last else "channels first"
    common = ", ".join(f"{count} {kind}" for kind, count in list(found.operators.items())[:SHOWN])
    other = " and others" if len(found.operators) > SHOWN else ""
    counted = f"{len(names)}, from {names[0]!r} to {names[-1]!r}" if names else "not in the file: --class-names"
    prepared = format_value(asdict(found.preprocess)) if found.preprocess else "not in the file: --mean, --std"
    lines = [f"{path}: an ONNX file that explains nothing yet", f"opset: {found.opset}, IR version {found.ir_version}"]
    lines += [f"written by: {found.producer or 'not in the file'}"]
    lines += [f"input {_write_value(value)}" for value in found.inputs]
    lines += [f"output {_write_value(value)}" for value in found.outputs]
    lines += [f"image: {'none of the inputs' if found.image_shape is None else layout}"]
    lines += [f"operators: {sum(found.operators.values())}: {common}{other}"]
    lines += [f"rounded to integers: {'yes, its nodes are kept' if found.quantized else 'no'}"]
    if found.unread:
        lines.append(f"computed by ONNX Runtime alone: {', '.join(found.unread)}")
    lines += [f"class names: {counted}", f"preparation: {prepared}"]
    lines += [f"metadata: {', '.join(found.metadata) or 'none'}", f"next: {_next(path)}"]
    return lines


def _write_value(value: "FileValue") -> str:
    return f"{value.name}: {value.dtype}, {' x '.join('?' if size is None else str(size) for size in value.shape)}"
