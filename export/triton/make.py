"""Make a Triton model repository entry of an artifact: python make.py lite0.onnx --repository models.

An entry is config.pbtxt, the artifact under its version, and the class names: what Triton, and KServe with it, take.
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

BACKENDS = {"onnx": ("onnxruntime", "model.onnx"), "torchscript": ("pytorch", "model.pt")}
TYPES = {
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "int64": "TYPE_INT64",
    "uint8": "TYPE_UINT8",
}
LABELS = "labels.txt"
PARAMETER = "explainable_model"
TOO_LONG = ("class_names", "reference")  # of the metadata, for a parameter; the artifact has them anyway


def make_entry(
    artifact: Path, repository: Path, name: str, version: int = 1, max_batch: int = 8, delay: int = 20
) -> Path:
    """Write ``repository/name``: a version of a model, and its configuration.

    Args:
        artifact: an ONNX or TorchScript artifact.
        repository: of Triton; made if missing.
        name: of the model.
        version: must not be there yet.
        max_batch: requests that Triton answers together, at most, where the artifact's batch is open.
        delay: milliseconds that it waits for them.

    Raises:
        ArtifactError: not an artifact of ours, of a format that Triton does not run, or a name or
            version that cannot be used.
    """
    metadata = read_metadata(artifact)
    if metadata.format not in BACKENDS:
        raise ArtifactError(
            f"{artifact} is {metadata.format}; Triton takes {' or '.join(BACKENDS)}: export to .onnx or .ts."
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
        files = {"config.pbtxt": configuration(metadata, name, max_batch, delay)}
        if has_labels(metadata):
            files[LABELS] = "".join(f"{label}\n" for label in metadata.class_names or ())
        for file, text in files.items():
            Path(work, file).write_text(text, encoding="utf-8")
            Path(work, file).replace(entry / file)
        made.rename(entry / str(version))  # last, so that a server that watches finds it whole
    return entry


def has_labels(metadata: Metadata) -> bool:
    """Whether Triton can name the classes of the logits: one per class, and one line per name."""
    names = metadata.class_names
    return len(metadata.logits_shape) == 2 and names is not None and not any("\n" in name for name in names)


def configuration(metadata: Metadata, name: str, max_batch: int, delay: int) -> str:
    """The text of config.pbtxt."""
    record = metadata.to_dict()
    batched = metadata.batch is None
    fields = {key: value for key, value in record.items() if key not in TOO_LONG}
    lines = [
        f'name: "{name}"',
        f'backend: "{BACKENDS[metadata.format][0]}"',
        f"max_batch_size: {max_batch if batched else 0}",
        *tensors("input", record["inputs"], metadata, batched),
        *tensors("output", record["outputs"], metadata, batched),
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {1000 * delay} }}")
    lines.append(f'parameters {{ key: "{PARAMETER}" value {{ string_value: {json.dumps(json.dumps(fields))} }} }}')
    return "\n".join(lines) + "\n"


def tensors(kind: str, specs: dict[str, dict[str, Any]], metadata: Metadata, batched: bool) -> Iterator[str]:
    """The inputs or the outputs."""
    for index, (name, spec) in enumerate(specs.items()):
        called = f"{name}__{index}" if metadata.format == "torchscript" else name  # how Triton names what has no names
        label = f' label_filename: "{LABELS}"' if name == LOGITS and has_labels(metadata) else ""
        yield f'{kind} {{ name: "{called}" data_type: {TYPES[spec["dtype"]]} {dims(spec["shape"], batched)}{label} }}'


def dims(shape: Sequence[int | None], batched: bool) -> str:
    """Without the batch where Triton adds it. It knows no tensor of no dimension: one number per image has shape 1."""
    sizes = [-1 if size is None else size for size in (shape[1:] if batched else shape)]
    return f"dims: {sizes}" if sizes else "dims: [1] reshape { shape: [] }"


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="a .onnx or .ts file made by explainable_model")
    parser.add_argument("--repository", type=Path, default=Path("models"), help="folder of all models")
    parser.add_argument("--name", help="of the model; the artifact's own name by default")
    parser.add_argument("--version", type=int, default=1)
    parser.add_argument("--max-batch", type=int, default=8, help="requests that are answered together, at most")
    parser.add_argument("--delay", type=int, default=20, help="milliseconds to wait for them")
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
