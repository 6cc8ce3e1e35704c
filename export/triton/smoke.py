"""Check repository entries against the artifacts, and serve one with Triton: python smoke.py lite0.onnx lite0.ts."""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

sys.path.append(str(Path(__file__).parents[1] / "http"))

from explain import Model, find_boxes
from harness import Running, find_free_port, require, run_server, write_broken_artifacts
from make import PARAMETER, TYPES, make_entry, write_configuration

from explainable_model import ExplainableModel, load, read_metadata
from explainable_model.demo import TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explainer.detector import session_detector
from explainable_model.explainer.photo_detections import explain_boxes
from explainable_model.explainer.photos import OpenedPhoto
from explainable_model.imaging.preprocess import open_photo

KIT = Path(__file__).parent
NAME = "lite0"
TOLERANCE = 1e-4
Tensors = dict[str, tuple[str, list[int]]]  # by name: Triton's type, and the shape with -1 for an open size


def parse(text: str) -> Any:
    """Read a configuration as Triton reads it: an unknown field is an error."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def read_tensors(tensors: Any, batched: bool) -> Tensors:
    """The inputs or outputs in a configuration."""
    found = {}
    for tensor in tensors:
        shape = list(tensor.reshape.shape) if tensor.HasField("reshape") else list(tensor.dims)
        name = model_config_pb2.DataType.Name(tensor.data_type)
        found[tensor.name] = (name, [-1, *shape] if batched else shape)
    return found


def describe_onnx(values: Any) -> Tensors:
    """The inputs or outputs of an ONNX Runtime session."""
    types = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(bool)": "TYPE_BOOL"}
    return {v.name: (types[v.type], [n if isinstance(n, int) else -1 for n in v.shape]) for v in values}


def describe_torchscript(path: Path) -> tuple[Tensors, Tensors]:
    """The inputs in a TorchScript file's signature and the outputs of a run, with Triton's names."""
    shape = read_metadata(path).image_shape[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit warns that it is deprecated
        module = torch.jit.load(str(path))
    given = {"image": torch.zeros(3, *shape), "class_idx": torch.full((3,), -1)}
    with torch.no_grad():
        results = module(*given.values())
    arguments = [argument.name for argument in module.forward.schema.arguments[1:]]
    inputs = {f"{name}__{n}": given[name] for n, name in enumerate(arguments)}
    outputs = dict(zip(("logits__0", "explained_class_idx__1", "cam__2"), results, strict=True))
    kinds = [
        {name: (TYPES[str(t.dtype).removeprefix("torch.")], [-1, *t.shape[1:]]) for name, t in tensors.items()}
        for tensors in (inputs, outputs)
    ]
    return kinds[0], kinds[1]


def check_entries(onnx: Path, torchscript: Path, repository: Path) -> None:
    """Require that names, types and shapes are the artifacts', and that requests are batched."""
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    real = {
        onnx: ("onnxruntime", "model.onnx", describe_onnx(session.get_inputs()), describe_onnx(session.get_outputs())),
        torchscript: ("pytorch", "model.pt", *describe_torchscript(torchscript)),
    }
    for artifact, (backend, file, inputs, outputs) in real.items():
        entry = make_entry(artifact, repository, f"{NAME}-{backend}")
        config = parse((entry / "config.pbtxt").read_text())
        require((config.name, config.backend) == (entry.name, backend), f"{config.name}, {config.backend}")
        for name, tensors, expected in (("inputs", config.input, inputs), ("outputs", config.output, outputs)):
            found = read_tensors(tensors, True)
            require(found == expected, f"{name} {found}, expected {expected}")
        require(config.max_batch_size == 8 and config.HasField("dynamic_batching"), "requests are not batched")
        require((entry / "1" / file).read_bytes() == artifact.read_bytes(), f"{file} is not the artifact")
        labels = (entry / config.output[0].label_filename).read_text().splitlines()
        require(labels == read_metadata(artifact).class_names, "the labels are not the class names")
        require(PARAMETER in config.parameters, "the preprocessing is missing")


def check_other_shapes(artifact: Path) -> None:
    """Require that an artifact of one batch size is not batched, and that open sizes stay open."""
    metadata = read_metadata(artifact)
    shapes = {field: [4, *getattr(metadata, field)[1:]] for field in ("image_shape", "logits_shape", "cam_shape")}
    config = parse(write_configuration(replace(metadata, **shapes), NAME, max_batch=8, delay=20))
    require(config.max_batch_size == 0 and not config.HasField("dynamic_batching"), "a fixed batch is batched")
    found = list(read_tensors(config.input, False).values())
    require(found == [("TYPE_FP32", shapes["image_shape"]), ("TYPE_INT64", [4])], f"a fixed batch has inputs {found}")
    shapes = {"image_shape": [None, 3, None, None], "cam_shape": [None, None, None]}
    config = parse(write_configuration(replace(metadata, **shapes), NAME, max_batch=8, delay=20))
    found = [list(tensor.dims) for tensor in (config.input[0], config.output[2])]
    require(found == [[3, -1, -1], [-1, -1]], f"open sizes are {found}")


def check_own_names(artifact: Path) -> None:
    """Require that an artifact which keeps the name of another file's input is asked by that name."""
    metadata = replace(read_metadata(artifact), input_names={"image": 'pixel "values"'})
    config = parse(write_configuration(metadata, NAME, max_batch=8, delay=20))
    found = [tensor.name for tensor in config.input]
    require(found == ['pixel "values"', "class_idx"], f"the inputs are {found}")


def check_detector(artifact: Path, repository: Path) -> None:
    """Require that a detector's entry has the names, types and shapes of its boxes."""
    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    config = parse((make_entry(artifact, repository, "detector") / "config.pbtxt").read_text())
    pairs = ((config.input, session.get_inputs()), (config.output, session.get_outputs()))
    for tensors, values in pairs:
        found, expected = read_tensors(tensors, True), describe_onnx(values)
        require(list(found) == list(expected), f"a detector has {list(found)}, expected {list(expected)}")
        for name, (kind, shape) in found.items():
            fits = all(-1 in pair or pair[0] == pair[1] for pair in zip(shape, expected[name][1], strict=True))
            require(kind == expected[name][0] and fits, f"{name} is {kind} {shape}, expected {expected[name]}")


def check_boxes(url: str, artifact: Path) -> None:
    """Require the detector's own boxes and maps, all of them and one by its rank."""
    model, explainer = Model(url, "detector"), session_detector(load(artifact))
    for path in demo_photos():
        photo = OpenedPhoto(open_photo(path), path, path.name)
        for rank in (-1, 1):
            got = find_boxes(model, photo, rank)
            want = explain_boxes(explainer, photo, None if rank == -1 else np.asarray([rank]))
            require(np.array_equal(got.labels, want.labels), f"Triton finds {got.labels} instead of {want.labels}")
            off = max(np.abs(got.boxes - want.boxes).max(initial=0), np.abs(got.cam - want.cam).max(initial=0))
            require(off < TOLERANCE * max(photo.picture.size), f"the boxes or maps of {path.name} differ by {off}")


def check_refusals(artifact: Path, repository: Path, work: Path) -> None:
    """Require that make.py refuses artifacts that cannot be served, and overwrites no version."""
    make_entry(artifact, repository, NAME)
    wrong = {message: (path, "other", 1) for message, path in write_broken_artifacts(artifact, work).items()}
    wrong["Version 1 of"] = (artifact, NAME, 1)
    wrong["expected letters"] = (artifact, "../other", 1)
    for message, (path, name, version) in wrong.items():
        try:
            make_entry(path, repository, name, version)
        except ArtifactError as error:
            require(message in str(error), f"make.py says of {path.name}: {error}")
        else:
            raise SystemExit(f"FAILED: make.py took {path.name} as {name}, version {version}")
    require(not (repository / "other").exists(), "make.py left something behind")
    make_entry(artifact, repository, NAME, version=2)


@contextmanager
def serve(venv: Path, repository: Path, folder: Path) -> Iterator[tuple[Running, str]]:
    """Run Triton with every model of the repository, from the virtual environment with nvidia-pytriton."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / f"python{python}" / "site-packages"
    triton = packages / "pytriton" / "tritonserver"
    backends = folder / "backends"
    shutil.copytree(triton / "backends" / "python", backends / "python")
    shutil.copytree(triton / "python_backend_stubs" / python, backends / "python", dirs_exist_ok=True)
    shutil.copytree(KIT / "stand_in", backends / "onnxruntime")
    for program in (backends / "python" / "triton_python_backend_stub", triton / "bin" / "tritonserver"):
        program.chmod(0o755)
    http, grpc = find_free_port(), find_free_port()
    command = [str(triton / "bin" / "tritonserver"), "--model-repository", str(repository)]
    command += ["--backend-directory", str(backends), "--disable-auto-complete-config", "--allow-metrics", "false"]
    command += ["--http-address", "127.0.0.1", "--http-port", str(http)]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(grpc)]
    libraries = [str(packages / "nvidia_pytriton.libs"), str(sysconfig.get_config_var("LIBDIR"))]
    # Triton's Python uses the environment of the first python3 on the path.
    path = f"{venv / 'bin'}:{os.environ['PATH']}"
    # The stand-in imports ONNX Runtime itself, which looks up its maker's host after a while: docs/privacy.md.
    environment = {"LD_LIBRARY_PATH": ":".join(libraries), "PATH": path, "ORT_DISABLE_TELEMETRY": "1"}
    with run_server(command, folder, environment) as server:
        url = f"http://127.0.0.1:{http}"
        server.wait_for(lambda: urllib.request.urlopen(f"{url}/v2/health/ready").status == 200, "loading")
        server.require_loopback([http, grpc])
        yield server, url


def check_answers(url: str, name: str, out: Path) -> None:
    """Require the network's own answers: of concurrent requests, another class, and two photos in one request."""
    model = Model(url, name)
    network = ExplainableModel(efficientnet_lite0().model, TARGET_LAYER)
    images = [model.preprocess(open_photo(path)) for path in demo_photos()]
    questions = [([n], [class_idx]) for n in range(len(images)) for class_idx in (-1, 285)] * 4 + [([0, 1], [-1, 7])]

    def find_problem(question: tuple[list[int], list[int]]) -> str:
        which, classes = question
        batch = np.concatenate([images[n] for n in which])
        got = model(batch, classes)
        want = network(torch.from_numpy(batch), torch.tensor(classes))
        if got.class_idx.tolist() != want.class_idx.tolist():
            return f"classes {got.class_idx.tolist()} instead of {want.class_idx.tolist()}"
        off = max(
            float(np.abs(got.cam - want.cam.numpy()).max()), float(np.abs(got.logits - want.logits.numpy()).max()) / 10
        )
        return f"{question} differs by {off:.1e}" if not off < TOLERANCE else ""

    with ThreadPoolExecutor(8) as pool:
        problems = [found for found in pool.map(find_problem, questions) if found]
    require(not problems, f"Triton disagrees with the network: {problems}")
    for wrong in (
        lambda: model(images[0], [1000]),
        lambda: model(images[0][:, :, :100], [-1]),
        lambda: Model(url, "other"),
    ):
        try:
            wrong()
        except InputError:
            continue
        raise SystemExit("FAILED: a wrong request got an answer")
    command = [sys.executable, str(KIT / "explain.py"), str(demo_photos()[0]), "--url", url, "--name", name]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
    require("class 285, 79%" in done.stdout, f"explain.py says {done.stdout}{done.stderr}")
    require((out / "chelsea-overlay.png").stat().st_size > 0, "explain.py wrote no overlay")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("onnx", type=Path)
    parser.add_argument("torchscript", type=Path)
    parser.add_argument("--triton", type=Path, help="environment with nvidia-pytriton, ONNX Runtime and NumPy 1")
    parser.add_argument("--detector", type=Path, help="an ONNX artifact of a detector")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        check_entries(chosen.onnx, chosen.torchscript, work / "entries")
        check_other_shapes(chosen.onnx)
        check_own_names(chosen.onnx)
        if chosen.detector is not None:
            check_detector(chosen.detector, work / "models")
        check_refusals(chosen.torchscript, work / "refusals", work)
        if chosen.triton is not None:
            entry = make_entry(chosen.onnx, work / "models", NAME)
            (work / "server").mkdir()
            with serve(chosen.triton.resolve(), entry.parent, work / "server") as (_, url):
                check_answers(url, NAME, work / "overlays")
                if chosen.detector is not None:
                    check_boxes(url, chosen.detector)
    print("triton: passed" if chosen.triton else "triton: entries passed; nothing was served without --triton")
    return 0


if __name__ == "__main__":
    sys.exit(main())
