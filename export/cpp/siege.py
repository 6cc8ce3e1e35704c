"""Give the program ``siege`` artifacts that lie: changed records, changed graphs and changed bytes.

    python export/cpp/siege.py BUILD [--files 10000] [--seed 0] [--json FILE]

BUILD is the folder of the kit of ONNX Runtime, built with -DSANITIZE=ON. The program explains a photo with each
artifact or refuses it; the script fails where it ends in any other way, and keeps that artifact.
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from kits import SUPPRESSIONS
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export
from explainable_model.writing import write_bytes

METADATA_KEY = "explainable_model.json"
HOSTILE: tuple[Any, ...] = (
    0, -1, 1, 2, 255, 2**16, 2**16 + 1, 2**31 - 1, 2**31, 2**32 + 8, 2**63 - 1, 2**64 - 1, 10**30, 1e308, -1e308,
    1e-320, float("nan"), float("inf"), 0.5, True, None, "", "float32", "uint8", "nearest", "NHWC", "\udc80",
    "x" * 5000, [], {}, [None], [1, 2], [1, 3, 8, 8], [2**20, 3, 8, 8], [1] * 1000, {"a": None}, [[[[]]]],
)  # fmt: skip
TYPES = (TensorProto.BOOL, TensorProto.UINT8, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64)
OUTPUTS = ("logits", "explained_class_idx", "cam")


def main() -> int:
    """Run the siege that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures = besiege(arguments.build / "siege", arguments.files, arguments.seed)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        write_bytes(arguments.json, (json.dumps(figures, indent=1) + "\n").encode())
    return 1 if figures["failed"] or figures["crashes"] else 0


def besiege(program: Path, files: int, seed: int) -> dict[str, Any]:
    """Give the program as many artifacts, and count how each ends; a crash starts the program again behind it."""
    started, random = time.monotonic(), Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(folder / "photo.png")
        artifacts = list(make_artifacts(folder))
        queue = [content for artifact in artifacts for content in list_graphs(artifact)]
        queue += [change(random, random.choice(artifacts)) for _ in range(files - len(queue))]
        total: dict[str, Any] = {"files": files, "answered": 0, "refused": 0, "failed": 0, "crashes": 0, "messages": []}
        done = 0
        while done < len(queue):
            done += run(program, folder, queue[done:], total)
    return {**total, "seconds": round(time.monotonic() - started, 1)}


def run(program: Path, folder: Path, queue: list[bytes], total: dict[str, Any]) -> int:
    """Run the program once, add to the counts, and return how many artifacts it has read."""
    frames, errors = folder / "frames", folder / "errors"
    frames.write_bytes(b"".join(len(content).to_bytes(8, "little") + content for content in queue))
    environment = {
        **os.environ,
        "ASAN_OPTIONS": "allocator_may_return_null=1:alloc_dealloc_mismatch=0",
        "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0",
    }
    with frames.open("rb") as given, errors.open("wb") as log:
        command = [program, folder / "photo.png", folder / "net.onnx"]
        done = subprocess.run(command, stdin=given, stdout=subprocess.PIPE, stderr=log, env=environment, timeout=3600)
    lines = errors.read_text(errors="replace").splitlines()
    read = 1 + max((int(line) for line in lines if line.isdecimal()), default=0)
    total["messages"] += [line for line in lines if line.startswith("failed: ")][:5]
    if done.stdout:
        for key, count in json.loads(done.stdout).items():
            total[key] += count
    elif read <= len(queue):
        total["crashes"] += 1
        kept = Path(tempfile.gettempdir()) / f"siege-{total['crashes']}.onnx"
        kept.write_bytes(queue[read - 1])
        total["messages"].append(f"{kept}: {' | '.join(line for line in lines[-60:] if not line.isdecimal())[:2000]}")
    if done.stdout and done.returncode:
        report = [line for line in lines if "Sanitizer" in line or "runtime error" in line]
        total["messages"] += report[:5]
        total["crashes"] += bool(report)
    return read if not done.stdout else len(queue)


def make_artifacts(folder: Path) -> Iterator[bytes]:
    """Small artifacts of several kinds: prepared images, photos, several classes at once, a fixed batch."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ).eval()
    image, preprocess = torch.randn(2, 3, 8, 8), Preprocess((8, 8), resize=9)
    kinds: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}), ({}, {"pixels": "NCHW"}), ({"top_k": 2}, {}), ({}, {"dynamic_batch": False}), ({"signed": True}, {}),
    ]  # fmt: skip
    for options, more in kinds:
        path = folder / "made.onnx"
        export(
            ExplainableModel(network, "1", **options), path, image, preprocess=preprocess,
            class_names=["a", "b", "c"], **more,
        )  # fmt: skip
        yield path.read_bytes()


def list_graphs(artifact: bytes) -> Iterator[bytes]:
    """The artifact with each output in turn of another type, rank, size or name, empty, not finite or missing."""
    yield artifact
    for output in OUTPUTS:
        for kind in (*TYPES, "rank", "flat", "empty", "name", "missing", "nan", "class"):
            model = onnx.load_from_string(artifact)
            change_output(model.graph, output, kind)
            yield model.SerializeToString()


def change_output(graph: Any, output: str, kind: Any) -> None:
    """Let an operator at the end of the graph change one output, as far as it can be changed in that way."""
    value = next(each for each in graph.output if each.name == output)
    inner = f"{output}_before"
    if kind in ("missing", "name"):
        if kind == "name":
            value.name = "another"
            graph.node.append(helper.make_node("Identity", [output], ["another"]))
        else:
            graph.output.remove(value)
        return
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if name == output else name for name in names]
    add = graph.initializer.append
    if kind in TYPES:
        graph.node.append(helper.make_node("Cast", [inner], [output], to=kind))
        value.type.tensor_type.elem_type = kind
    elif kind in ("rank", "flat"):
        add(numpy_helper.from_array(np.array([1, 1, -1] if kind == "rank" else [-1], np.int64), f"{output}_shape"))
        graph.node.append(helper.make_node("Reshape", [inner, f"{output}_shape"], [output]))
        value.type.tensor_type.ClearField("shape")
    elif kind == "empty":
        for name in ("from", "to"):
            add(numpy_helper.from_array(np.array([0], np.int64), f"{output}_{name}"))
        add(numpy_helper.from_array(np.array([-1], np.int64), f"{output}_axis"))
        names = [inner, *(f"{output}_{name}" for name in ("from", "to", "axis"))]
        graph.node.append(helper.make_node("Slice", names, [output]))
        value.type.tensor_type.ClearField("shape")
    else:
        number = value.type.tensor_type.elem_type
        factor = {"nan": np.float32("nan"), "class": np.float32(1e6)}[kind] if number == TensorProto.FLOAT else 10**12
        array = np.array(factor, helper.tensor_dtype_to_np_dtype(number))
        add(numpy_helper.from_array(array, f"{output}_term"))
        graph.node.append(helper.make_node("Add", [inner, f"{output}_term"], [output]))


def change(random: Random, artifact: bytes) -> bytes:
    """One changed artifact: half of them with another record, the others with other bytes."""
    if random.random() < 0.6:
        model = onnx.load_from_string(artifact)
        entry = next(each for each in model.metadata_props if each.key == METADATA_KEY)
        record = json.loads(entry.value)
        for _ in range(random.choice([1, 1, 1, 2, 5])):
            record = change_record(random, record)
        text = json.dumps(record)
        if random.random() < 0.1:
            text = text[: random.randrange(len(text))] + random.choice(
                ["", "[" * 100_000, "}", "\x00", '{"a":' * 50_000]
            )
        entry.value = text
        return model.SerializeToString()
    content = bytearray(artifact)
    for _ in range(random.choice([1, 1, 2, 4, 16])):
        content[random.randrange(len(content))] = random.randrange(256)
    return bytes(content[: random.randrange(len(content))] if random.random() < 0.1 else content)


def change_record(random: Random, record: Any) -> Any:
    """The record with one value replaced, removed, repeated or taken from elsewhere in the record."""
    record = copy.deepcopy(record)
    places = list(find_places(record))
    holder, key = random.choice(places)
    action = random.randrange(5)
    if action == 0:
        del holder[key]
    elif action == 1:
        other, name = random.choice(places)
        with_name = other[name] if not isinstance(other, list) or name < len(other) else None
        holder[key] = copy.deepcopy(with_name)
    elif action == 2 and isinstance(holder[key], list):
        holder[key] = holder[key] * random.choice([0, 2, 50])
    else:
        holder[key] = random.choice(HOSTILE)
    return record


def find_places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a record with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from find_places(inner)


if __name__ == "__main__":
    sys.exit(main())
