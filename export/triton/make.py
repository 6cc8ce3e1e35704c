"""Make a Triton model repository entry of an artifact: python make.py lite0.onnx --repository models.

An entry is config.pbtxt, the artifact under its version, and the class names. Triton takes it, and so does KServe.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from explainable_model import Metadata, read_metadata
from explainable_model.errors import ArtifactError, ExplainableModelError
from explainable_model.explanation import LOGITS
from explainable_model.writing import resolve_target

BACKENDS = {"onnx": ("onnxruntime", "model.onnx"), "torchscript": ("pytorch", "model.pt")}
TYPES = {
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int64": "TYPE_INT64",
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
}
LABELS = "labels.txt"
PARAMETER = "explainable_model"
TOO_LONG = ("class_names", "reference")  # metadata that a parameter leaves out; the artifact has them


def make_entry(
    artifact: Path, repository: Path, name: str, version: int = 1, max_batch: int = 8, delay: int = 20
) -> Path:
    """Write a version of a model and its configuration to ``repository/name``.

    Args:
        artifact: an ONNX or TorchScript artifact.
        repository: Triton's model repository; made where it is missing.
        name: the model's name.
        version: a new version of the model.
        max_batch: how many requests Triton answers together at most, where the artifact takes any batch size.
        delay: how many milliseconds a request waits for others.

    Raises:
        ArtifactError: the file is not an artifact of explainable_model or is of a format that Triton does not run, or
            the name or version cannot be used.
    """
    metadata = read_metadata(artifact)
    if metadata.format not in BACKENDS:
        raise ArtifactError(
            f"{artifact} is {metadata.format}; Triton takes {' or '.join(BACKENDS)}: export to .onnx or .ts."
        )
    if metadata.format == "torchscript" and metadata.image_dtype == "uint16":
        raise ArtifactError(
            f"{artifact} takes photos of uint16, which Triton's PyTorch backend does not have: export to .onnx."
        )
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ArtifactError(f"The name is {name!r}; expected letters, digits, '_', '-' and '.'.")
    entry = repository / name
    if version < 1 or (entry / str(version)).exists():
        raise ArtifactError(
            f"Version {version} of {entry} cannot be made; choose another from 1 on that is not there yet."
        )
    entry.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry, prefix=".") as work:
        made = Path(work, str(version))
        made.mkdir()
        shutil.copyfile(artifact, made / BACKENDS[metadata.format][1])
        weights = artifact.with_name(f"{artifact.name}.data")
        if metadata.format == "onnx" and weights.exists():
            shutil.copyfile(weights, made / weights.name)
        files = {"config.pbtxt": write_configuration(metadata, name, max_batch, delay)}
        if has_labels(metadata):
            files[LABELS] = "".join(f"{label}\n" for label in metadata.class_names or ())
        for file, text in files.items():
            Path(work, file).write_text(text, encoding="utf-8")
            Path(work, file).replace(resolve_target(entry / file))
        made.rename(entry / str(version))  # last, so that a watching server finds the version complete
    return entry


def has_labels(metadata: Metadata) -> bool:
    """Whether Triton can name the classes: there is one logit per class, and each name is one line."""
    names = metadata.class_names
    return len(metadata.logits_shape) == 2 and names is not None and not any("\n" in name for name in names)


def write_configuration(metadata: Metadata, name: str, max_batch: int, delay: int) -> str:
    """The text of config.pbtxt."""
    record = metadata.to_dict()
    batched = metadata.batch is None
    fields = {key: value for key, value in record.items() if key not in TOO_LONG}
    lines = [
        f'name: "{name}"',
        f'backend: "{BACKENDS[metadata.format][0]}"',
        f"max_batch_size: {max_batch if batched else 0}",
        *describe_tensors("input", record["inputs"], metadata, batched),
        *describe_tensors("output", record["outputs"], metadata, batched),
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {1000 * delay} }}")
    lines.append(f'parameters {{ key: "{PARAMETER}" value {{ string_value: {json.dumps(json.dumps(fields))} }} }}')
    return "\n".join(lines) + "\n"


def describe_tensors(kind: str, specs: dict[str, dict[str, Any]], metadata: Metadata, batched: bool) -> Iterator[str]:
    """The lines of the inputs or of the outputs."""
    for index, (name, spec) in enumerate(specs.items()):
        # Triton numbers the tensors of TorchScript, which have no names.
        tensor = f"{name}__{index}" if metadata.format == "torchscript" else spec.get("name", name)
        label = f' label_filename: "{LABELS}"' if name == LOGITS and has_labels(metadata) else ""
        dims = describe_dims(spec["shape"], batched)
        yield f"{kind} {{ name: {json.dumps(tensor)} data_type: {TYPES[spec['dtype']]} {dims}{label} }}"


def describe_dims(shape: Sequence[int | None], batched: bool) -> str:
    """The dimensions, without the batch where Triton adds it. One number per image has shape 1 for Triton."""
    sizes = [-1 if size is None else size for size in (shape[1:] if batched else shape)]
    return f"dims: {sizes}" if sizes else "dims: [1] reshape { shape: [] }"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="a .onnx or .ts file made by explainable_model")
    parser.add_argument("--repository", type=Path, default=Path("models"), help="the folder of all models")
    parser.add_argument("--name", help="the model's name; default: the artifact's")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=8, help="requests that are answered together at most")
    parser.add_argument("--delay", type=int, default=20, help="milliseconds that a request waits for others")
    chosen = parser.parse_args()
    name = chosen.name or chosen.artifact.stem
    try:
        entry = make_entry(chosen.artifact, chosen.repository, name, chosen.version, chosen.max_batch, chosen.delay)
    except ExplainableModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
