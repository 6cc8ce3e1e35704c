"""load(): what a session accepts, what it refuses, and what it does not import."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from explainable_model import export, load, read_metadata
from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.errors import ArtifactError, InputError
from explainable_model.exporters.torchscript import quiet_torchscript
from explainable_model.lowering.capture.export import quiet_export
from tests.support.nets import QUICK_FORMATS, TinyResNet, images, seeded
from tests.support.shared import lowered

SUFFIXES = [fmt.suffixes[0] for fmt in QUICK_FORMATS]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("artifacts")
    return {suffix: export(lowered(TinyResNet, "layer2"), folder / f"net{suffix}") for suffix in SUFFIXES}


def test_a_device_is_for_formats_that_have_one(artifacts: dict[str, Path]) -> None:
    image = images(2).numpy()
    answer, again = load(artifacts[".ts"])(image), load(artifacts[".ts"], device="cpu")(image)
    assert all(np.array_equal(a, b) for a, b in zip(answer, again, strict=True))
    with pytest.raises(InputError, match=r"runs on the CPU alone. A device can be chosen for: torchscript\."):
        load(artifacts[".onnx"], device="cpu")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_refuses_what_the_artifact_cannot_take(artifacts: dict[str, Path], suffix: str) -> None:
    session = load(artifacts[suffix])
    good = images(2).numpy()
    for image, message in (
        (good[0], r"shape \(3, 32, 32\); net.* expects \(N, 3, 32, 32\)"),
        (good[:, :, :16], r"expects \(N, 3, 32, 32\)"),
        (good[:0], r"expects \(N, 3, 32, 32\)"),
        (good.astype(np.float64), "image is float64; net.* expects float32"),
        (good * np.nan, "NaN or infinite"),
    ):
        with pytest.raises(InputError, match=message):
            session(image)
    for class_idx, message in (
        (np.array([0, 5]), r"class_idx 5 is out of range; net.* has 5 class"),
        (np.array([0, -2]), "class_idx -2 is out of range"),
        (np.array([0]), r"int64 of shape \(2,\)"),
        (np.array([0.0, 1.0]), "class_idx is float64"),
    ):
        with pytest.raises(InputError, match=message):
            session(good, class_idx)
    assert session(good, np.array([4, -1])).class_idx[0] == 4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_prediction_alone_is_that_of_a_call(artifacts: dict[str, Path], suffix: str) -> None:
    session, image = load(artifacts[suffix]), images(3).numpy()
    assert np.abs(session.predict(image) - session(image).logits).max() < 1e-6
    with pytest.raises(InputError, match="NaN or infinite"):
        session.predict(image * np.nan)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_takes_tensors_and_strided_arrays(artifacts: dict[str, Path], suffix: str) -> None:
    session = load(artifacts[suffix])
    image = images(2)
    expected = session(image.numpy()).cam
    strided = np.ascontiguousarray(image.numpy().transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(session(image).cam, expected)
    assert np.array_equal(session(strided).cam, expected)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_truncated_and_foreign_files(artifacts: dict[str, Path], suffix: str, tmp_path: Path) -> None:
    whole = artifacts[suffix].read_bytes()
    path = tmp_path / f"net{suffix}"
    for content in (b"", b"not an artifact", whole[: len(whole) // 2], whole[:100]):
        path.write_bytes(content)
        for function in (load, read_metadata):
            with pytest.raises(ArtifactError, match="net"):
                function(path)
    with pytest.raises(ArtifactError, match="There is no artifact"):
        load(tmp_path / f"missing{suffix}")


def test_foreign_artifacts(tmp_path: Path) -> None:
    with quiet_torchscript():
        torch.jit.save(torch.jit.script(seeded(TinyResNet())), tmp_path / "net.ts")
    with quiet_export():
        torch.export.save(torch.export.export(seeded(TinyResNet()), (images(2),)), tmp_path / "net.pt2")
        torch.onnx.export(seeded(TinyResNet()), (images(2),), tmp_path / "net.onnx", dynamo=True, verbose=False)
    for suffix in SUFFIXES:
        for function in (load, read_metadata):
            with pytest.raises(ArtifactError, match="was not exported by explainable_model"):
                function(tmp_path / f"net{suffix}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "schema 99; this version reads up to 1.*Upgrade"),
        ({"schema_version": "new"}, "schema new"),
        ({"schema_version": True}, "schema True"),
        ({"preprocess": {"size": "large"}}, r"incomplete metadata \(preprocess.size is 'large'\)"),
        (
            {"preprocess": {"size": [65536, 65536]}},
            "the prepared image has the shape .*, which is more than 268435456 values",
        ),
        ({"preprocess": [1]}, "preprocess is"),
        ({"image_shape": [None, 3, "16", 16]}, "image_shape is"),
        ({"image_shape": "any"}, "image_shape is 'any'"),
        ({"image_shape": [1000000, 3, 65536, 65536]}, "the batch of image is 1000000, expected a whole number"),
        ({"cam_range": 1}, "cam_range is 1"),
        ({"classes": "3"}, "classes is '3'"),
        ({"classes": -3}, "classes is -3"),
        ({"dtype": "object"}, "dtype is 'object'"),
        ({"pixels": 7}, "pixels is 7"),
        ({"top_k": 0}, "top_k is 0"),
        ({"sizes": [{"minimum": 1, "multiple": 0}]}, "sizes is"),
        ({"extra_inputs": [{"shape": [None], "dtype": "object"}]}, "extra_inputs is"),
        ({"extra_inputs": [3]}, "extra_inputs is"),
        ({"reference": {"class_idx": "0"}}, "reference.class_idx is '0'"),
        ({"class_names": "abc"}, "class_names is 'abc'"),
        ({"look": {"alpha": "all"}}, "look.alpha is 'all'"),
        ({"versions": 3}, "versions is 3"),
    ],
)
def test_newer_and_broken_metadata(
    artifacts: dict[str, Path], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "net.ts"
    with zipfile.ZipFile(artifacts[".ts"]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(METADATA_KEY):
                content = json.dumps({**json.loads(content), **change}).encode()
            new.writestr(name, content)
    for function in (load, read_metadata):
        with pytest.raises(ArtifactError, match=message):
            function(path)


def test_loading_onnx_does_not_import_torch(artifacts: dict[str, Path]) -> None:
    code = f"""
import sys
import numpy as np
from explainable_model import load, read_metadata
session = load({str(artifacts[".onnx"])!r})
result = session(np.ones((2, 3, 32, 32), np.float32))
assert result.cam.shape == (2, 32, 32), result.cam.shape
assert read_metadata({str(artifacts[".onnx"])!r}) == session.metadata
assert "torch" not in sys.modules, "torch was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_no_runtime() -> None:
    code = (
        "import sys, explainable_model as e; e.ExplainableModel, e.export, e.METHODS, e.FORMATS, e.LOWERINGS;"
        "assert not {'onnx', 'onnxruntime', 'onnxscript', 'timm', 'matplotlib'} & set(sys.modules), 'too much'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_session_is_pickled_as_its_path_and_options(artifacts: dict[str, Path]) -> None:
    session = load(artifacts[".onnx"], threads=1)
    again = pickle.loads(pickle.dumps(session))
    image = np.zeros((1, *session.metadata.image_shape[1:]), np.float32)
    assert again.metadata == session.metadata
    assert np.array_equal(again(image).cam, session(image).cam)
