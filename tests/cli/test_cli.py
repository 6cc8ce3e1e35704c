"""The command line as a user meets it: exit codes, what is printed where, and the numbers in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from explainable_model import ExplainableModel, load, read_metadata
from tests.support import cli_nets
from tests.support.cli_run import NAMED, Run
from tests.support.nets import TinyResNet, images, seeded

ROOT = Path(__file__).parents[2]


def test_onnx_needs_no_torch(artifacts: dict[str, Path], photos: list[Path], tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules['onnx'] = None  # as where it is not installed\n"
        "from explainable_model.cli.main import main\n"
        "assert main(sys.argv[2:]) == 0\n"
        "assert main(['verify', sys.argv[1]]) == 0\n"
        "assert main(['inspect', sys.argv[1]]) == 0\n"
        "assert 'onnxruntime' in sys.modules\n"
        "loaded = [name for name in ('torch', 'torchvision', 'timm') if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    arguments = ["explain", photos[0], "--artifact", artifacts["onnx"], "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, artifacts["onnx"], *arguments],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / "cat-panel.png").exists()


NET = """from torch import nn
def net():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


def test_modules_in_the_current_folder_are_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    try:
        run = Run(capsys, "layers", "--model", "mine:net", "--size", "8x8", "--json")
    finally:
        sys.modules.pop("mine", None)
    assert run.code == 0
    assert run.record["model"] == "mine:net"
    assert sys.path == before


def test_python_m(artifacts: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "explainable_model", "inspect", artifacts["onnx"], "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["target_layer"] == "layer2"


# export, verify, inspect, layers


@pytest.mark.parametrize("suffix", ["ts", "onnx", "pt2"])
def test_export(artifacts: dict[str, Path], suffix: str) -> None:
    session = load(artifacts[suffix])
    metadata = session.metadata
    assert (metadata.model, metadata.target_layer, metadata.method) == ("TinyResNet", "layer2", "gradcam")
    assert metadata.preprocess == cli_nets.PREPROCESS
    assert metadata.class_names == list(cli_nets.CLASS_NAMES)
    image = images(3, seed=5)
    logits, class_idx, cam = ExplainableModel(seeded(TinyResNet(5)), "layer2")(image)
    answer = session(image.numpy())
    assert np.abs(answer.logits - logits.numpy()).max() < 1e-5
    assert np.array_equal(answer.class_idx, class_idx.numpy())
    assert np.abs(answer.cam - cam.numpy()).max() < 1e-4


def test_export_with_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "wide.ts"
    options = ("--layer", "layer1", "--method", "gradcam", "--format", "torchscript", "--size", "16x40")
    run = Run(capsys, "export", "--model", "tests.support.cli_nets:wide", "-o", target, *options, "--json")
    assert run.code == 0
    assert run.record["path"] == str(target)
    assert run.record["bytes"] == target.stat().st_size
    assert run.record["image_shape"] == [None, 3, 16, 40]
    metadata = read_metadata(target)
    assert metadata.target_layer == "layer1"
    assert metadata.preprocess is not None
    assert (metadata.preprocess.size, metadata.preprocess.std) == ((16, 40), (0.25,) * 3)
    words = Run(capsys, "export", "--model", "tests.support.cli_nets:wide", "-o", target).out
    assert re.fullmatch(
        rf"{re.escape(str(target))}: gradcam of TinyResNet at layer2 as torchscript, .* kB\. .*\n", words
    )


def test_export_that_takes_photos(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "photos.onnx"
    model = ("--model", "tests.support.cli_nets:named")
    run = Run(
        capsys, "export", *model, "-o", target, "--pixels", "NHWC", "--render", "overlay", "--alpha", "0.4", "--json"
    )
    assert run.code == 0
    assert run.record["inputs"]["image"]["shape"] == [None, None, None, 3]
    assert run.record["look"] == {"colormap": "turbo", "alpha": 0.4, "threshold": 0.0, "hide": "heatmap"}
    assert Run(capsys, "verify", target, *model).code == 0
    by_artifact = Run(capsys, "explain", photos[0], "--artifact", target, "--out", tmp_path / "a", "--json")
    by_network = Run(capsys, "explain", photos[0], *model, "--out", tmp_path / "b", "--json")
    (got,), (want,) = by_artifact.record["photos"], by_network.record["photos"]
    assert got["class_idx"] == want["class_idx"]
    assert got["probability"] == pytest.approx(want["probability"], abs=0.01)
    with Image.open(photos[0]) as photo:
        assert got["box"] == [0, 0, *photo.size]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "net.ts", "--render", "overlay"], "pixels='NCHW'"),
        (["-o", "net.ts", "--pixels", "NCHW", "--alpha", "0.4"], "--render overlay"),
        (["-o", "net.foo"], r"suffix '.foo'.*known formats: torchscript"),
        (["-o", "net.pt", "--format", "onnx"], r"files end in \.onnx.*-o net\.onnx"),
        (["-o", "net.ts", "--format", "flax"], "Unknown format 'flax'"),
        (["-o", "no/such/net.ts"], "cannot be written"),
        (["-o", "net.ts", "--layer", "layer9"], "'layer9' is not in TinyResNet. Did you mean 'layer"),
        (["-o", "net.ts", "--method", "grad"], "Unknown method 'grad'"),
        (["-o", "net.ts", "--size", "32"], "'32' is not a size; expected HEIGHTxWIDTH"),
        (["-o", "net.ts", "--checkpoint", "no.pth"], r"There is no checkpoint no\.pth"),
        (["-o", "net.ts", "--pretrained"], "is a factory, which chooses"),
    ],
)
def test_export_mistakes(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run(capsys, "export", "--model", "tests.support.cli_nets:other", *arguments)
    assert run.code == 2
    assert run.out == ""
    assert re.match(rf"explainable-model: error: .*{message}", run.err)
    assert run.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["ts", "onnx", "pt2"])
def test_verify(capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], suffix: str) -> None:
    alone = Run(capsys, "verify", artifacts[suffix])
    assert (alone.code, alone.err) == (0, "")
    assert "agrees with its checksum and the recorded answer" in alone.out
    same = Run(capsys, "verify", artifacts[suffix], "--model", NAMED, "--json")
    assert same.code == 0
    assert same.record["passed"] is True
    assert same.record["parity"]["images"] == 10
    assert same.record["parity"]["cam"] < 1e-4
    other = Run(capsys, "verify", artifacts[suffix], "--model", "tests.support.cli_nets:other", "--json")
    assert other.code == 1
    assert other.record["passed"] is False
    assert "differ" in other.record["reason"]
    assert other.record["reference"] == "agrees"


def test_verify_finds_changed_weights(
    capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], tmp_path: Path
) -> None:
    model = onnx.load(artifacts["onnx"])
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.2)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    for reason in ("changed after the export", "differ"):
        onnx.save(model, tmp_path / "changed.onnx")
        run = Run(capsys, "verify", tmp_path / "changed.onnx")
        assert run.code == 1
        assert "FAILED" in run.out
        assert reason in run.out
        (entry,) = model.metadata_props  # without its checksum, as in earlier versions
        entry.value = json.dumps({**json.loads(entry.value), "checksum": None})


def test_verify_mistakes(capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "text.ts").write_text("not a model")
    for arguments, message in (
        ([tmp_path / "missing.ts"], "There is no artifact"),
        ([tmp_path / "text.onnx"], "damaged or not an ONNX model"),
        ([tmp_path / "text.ts"], "damaged or not an archive"),
        ([artifacts["ts"], "--checkpoint", "trained.pth"], "--checkpoint belongs to --model"),
        ([artifacts["ts"], "--model", "tests.support.cli_nets:bare"], r"logits of shape \(1, 3\)"),
    ):
        run = Run(capsys, "verify", *arguments)
        assert run.code == 2
        assert re.search(message, run.err)
        assert run.out == ""


@pytest.mark.parametrize("suffix", ["ts", "onnx", "pt2"])
def test_inspect(capsys: pytest.CaptureFixture[str], artifacts: dict[str, Path], suffix: str) -> None:
    run = Run(capsys, "inspect", artifacts[suffix], "--json")
    assert run.code == 0
    recorded = read_metadata(artifacts[suffix]).to_dict()
    assert run.record == json.loads(json.dumps({"path": str(artifacts[suffix]), **recorded}))
    words = Run(capsys, "inspect", artifacts[suffix]).out
    assert "target_layer: layer2" in words
    assert "image_shape: (any, 3, 32, 32)" in words
    assert "class_names: 5, from 'tabby, tabby cat' to 'espresso'" in words
    assert "reference answer: recorded" in words


def test_layers(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "layers", "--model", NAMED, "--json")
    assert run.code == 0
    assert run.record["default"] == "layer2"
    assert run.record["image"] == [1, 3, 32, 32]
    found = {layer["name"]: (layer["type"], layer["shape"]) for layer in run.record["layers"]}
    assert found["layer2"] == ("ResidualBlock", [1, 16, 4, 4])
    assert found["stem.0"] == ("Conv2d", [1, 8, 32, 32])
    assert "fc" not in found
    words = Run(capsys, "layers", "--model", "tests.support.cli_nets:bare", "--size", "64x32").out
    assert re.search(r"^\* +layer2 +ResidualBlock +1 x 16 x 8 x 4$", words, re.MULTILINE)
    assert len(re.findall(r"^\*  ", words, re.MULTILINE)) == 1


def test_layers_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["tests.support.cli_nets:bare"], "image size of this TinyResNet is unknown; give it with --size"),
        (["tests.support.cli_nets:fixed", "--size", "9x9"], r"Fixed failed on an image of shape \(1, 3, 9, 9\)"),
        (["tests.support.cli_nets:broken", "--size", "9x9"], r"broken\(\) raised KeyError"),
        (["tests.support.cli_nets:nothing"], "tests.support.cli_nets has no 'nothing'"),
    ):
        run = Run(capsys, "layers", "--model", *arguments)
        assert run.code == 2
        assert re.match(f"explainable-model: error: .*{message}", run.err)
        assert run.err.count("\n") == 1
