"""Every format, reloaded in its own runtime, against the eager module; and what export leaves behind when it fails."""

import errno
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from explainable_model import ExplainableModel, LoweredModel, Preprocess, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import ArtifactError, InputError, LoweringError, VerificationError
from explainable_model.exporters import format_of
from explainable_model.exporters.torchscript import quiet_torchscript
from tests.lowering.test_lowering import Exotic
from tests.support.nets import CASES, QUICK_FORMATS, TinyResNet, XrayClassifier, images, seeded

SUFFIXES = [suffix for fmt in QUICK_FORMATS for suffix in fmt.suffixes[:1]]


def assert_artifact_equals_eager(path: Path, explainable: ExplainableModel, size: tuple[int, ...]) -> None:
    session = load(path, threads=1)
    for batch in (1, 2, 7):
        image = images(batch, size, seed=50 + batch)
        for class_idx in (None, torch.arange(batch) % 2 - 1):  # predicted; and -1, 0, -1, 0, ...
            if class_idx is not None and session.metadata.classes == 1:
                continue
            want = explainable(image, class_idx)
            got = session(image.numpy(), None if class_idx is None else class_idx.numpy())
            assert got.class_idx.tolist() == want.class_idx.tolist()
            assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * max(1.0, float(want.logits.abs().max()))
            assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
            assert want.cam.max() > 0.5, "a map of zeros would prove nothing"


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("where", ["last", "early"])
def test_every_format_equals_eager(name: str, where: str, tmp_path: Path) -> None:
    case = CASES[name]
    explainable = ExplainableModel(seeded(case.network()), getattr(case, where))
    lowered = lower(explainable, images(1, case.size))
    for suffix in SUFFIXES:
        path = export(lowered, tmp_path / f"net{suffix}")
        assert_artifact_equals_eager(path, explainable, case.size)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"net{suffix}" for suffix in SUFFIXES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_export_in_one_call_with_metadata(suffix: str, tmp_path: Path) -> None:
    network = seeded(XrayClassifier(width=2))
    explainable = ExplainableModel(network, "blocks.4")
    preprocess = Preprocess(size=(256, 256), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    path = export(
        explainable, tmp_path / f"xray{suffix}", images(1, (3, 256, 256)), preprocess=preprocess,
        class_names=["pneumonia"],
    )  # fmt: skip
    metadata = read_metadata(path)
    assert metadata == load(path).metadata
    assert metadata.model == "XrayClassifier"
    assert (metadata.method, metadata.target_layer) == ("gradcam", "blocks.4")
    assert metadata.image_shape == [None, 3, 256, 256]
    assert metadata.logits_shape == [None, 1, 1, 1]
    assert metadata.cam_shape == [None, 256, 256]
    assert metadata.dtype == "float32"
    assert metadata.class_names == ["pneumonia"]
    assert metadata.preprocess == preprocess
    assert metadata.versions["torch"] == torch.__version__
    record = json.loads(metadata.to_json())
    assert record["inputs"]["image"]["range"] == [-1.0, 1.0]
    assert record["outputs"]["cam"]["range"] == [0, 1]
    assert record["batch_rule"] == "any"
    session = load(path)
    for batch in (1, 4):
        image = images(batch, (3, 256, 256), seed=batch)
        want, got = explainable(image), session(image)
        assert got.logits.shape == (batch, 1, 1, 1)
        assert np.abs(got.cam - want.cam.numpy()).max() < 1e-4
        assert got.cam.max() > 0.5


def test_torchscript_is_a_plain_tuple_with_an_optional_class() -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer1", example=images(1))
    with quiet_torchscript():
        scripted = torch.jit.script(explainable)
    result = scripted(images(3))
    assert isinstance(result, tuple)
    want = explainable(images(3))
    assert torch.allclose(result[2], want.cam, atol=1e-5)
    assert torch.equal(scripted(images(3), torch.tensor([1, 2, 3]))[1], torch.tensor([1, 2, 3]))
    with pytest.raises(torch.jit.Error, match=r"image has shape \[1, 3, 48, 48\]; expected \[-1, 3, 32, 32\]"):
        scripted(images(1, (3, 48, 48)))
    assert "prim::PythonOp" not in str(scripted.inlined_graph)
    with quiet_torchscript(), pytest.raises(InputError, match="needs an example image"):
        torch.jit.script(ExplainableModel(seeded(TinyResNet()), "layer1"))


def test_float64_artifacts(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()).double(), "layer1")
    for suffix in (".ts", ".pt2"):
        session = load(export(explainable, tmp_path / f"net{suffix}", images(1).double()))
        image = images(3, seed=8).double()
        assert np.abs(session(image).cam - explainable(image).cam.numpy()).max() < 1e-9
    with pytest.raises(ArtifactError, match=r"no kernel for a part of net.onnx.*implementation for Conv.*float32"):
        export(explainable, tmp_path / "net.onnx", images(1).double())


def test_onnx_is_one_file_with_named_ends(tmp_path: Path) -> None:
    import onnx

    path = export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "net.onnx", images(1))
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [i.name for i in model.graph.input] == ["image", "class_idx"]
    assert [o.name for o in model.graph.output] == ["logits", "explained_class_idx", "cam"]
    assert model.opset_import[0].version >= 18
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"layer1/conv1/Conv", "layer1/shortcut/0/Conv", "fc/Gather"} <= set(names)
    assert {"layer1_conv1_folded_weight", "layer1_conv1_folded_bias", "fc_weight"} <= {
        i.name for i in model.graph.initializer
    }
    assert [i.type.tensor_type.shape.dim[0].dim_param for i in model.graph.input] == ["batch", "batch"]
    assert [o.type.tensor_type.shape.dim[0].dim_param for o in model.graph.output] == ["batch"] * 3
    assert str(Path(__file__).parent).encode() not in path.read_bytes(), "no path of the machine it was made on"
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Resize") == 1
    assert not {"GatherND", "ScatterND", "ScatterElements"} & set(kinds)


def test_weights_beyond_the_limit_go_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explainable_model.exporters.onnx.PROTOBUF_LIMIT", 1000)
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    path = export(explainable, tmp_path / "big.onnx", images(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["big.onnx", "big.onnx.data"]
    assert_artifact_equals_eager(path, explainable, (3, 32, 32))
    (tmp_path / "big.onnx.data").unlink()
    assert read_metadata(path).model == "TinyResNet"  # which reads no weights


# Failures leave nothing behind


def test_an_artifact_that_disagrees_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = seeded(TinyResNet())
    explainable = ExplainableModel(network, "layer2")
    lowered = lower(explainable, images(1))
    monkeypatch.setattr("explainable_model.exporters.pipeline.lower", lambda *args, **options: lowered)
    with torch.no_grad():
        network.layer2.conv2.weight.mul_(1.1)  # the network is no longer what was lowered
    for suffix in SUFFIXES:
        with pytest.raises(VerificationError, match=r"TinyResNet at 'layer2' disagrees.*Nothing was written"):
            export(explainable, tmp_path / f"net{suffix}", images(1))
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_baked_in_as_a_constant_is_noticed(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer1")
    lowered = lower(explainable, images(2))

    class Baked(LoweredModel):
        pass

    frozen = lowered.graph_module
    constant = frozen(*lowered.inputs)[2][:1].detach()

    class Wrong(torch.nn.Module):
        def forward(self, image: torch.Tensor, class_idx: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, index, cam = frozen(image, class_idx)
            return logits, index, cam * 0 + constant

    from explainable_model.exporters.describe import describe
    from explainable_model.exporters.torch_runner import torch_runner
    from explainable_model.verify.parity import check_parity

    metadata = describe(lowered, "torchscript", None, None)
    assert check_parity(explainable, lowered, metadata, torch_runner(frozen, None)).passed
    parity = check_parity(explainable, lowered, metadata, torch_runner(Wrong(), None))
    assert not parity.passed
    assert "the map differs" in parity.reason


def test_a_missing_lowering_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LoweringError, match="special_i0e"):
        export(ExplainableModel(seeded(Exotic()), "conv"), tmp_path / "net.onnx", images(1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_disk_that_fills_up_leaves_nothing(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fmt = format_of(f"net{suffix}")

    def write(lowered: LoweredModel, path: Path, metadata: str) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    full = replace(fmt, write=write)
    monkeypatch.setattr("explainable_model.exporters.FORMATS", {fmt.name: full})
    (tmp_path / f"net{suffix}").write_text("the artifact of yesterday")
    with pytest.raises(ArtifactError, match="No space left on device.*nothing was left behind"):
        export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / f"net{suffix}", images(1))
    assert [p.name for p in tmp_path.iterdir()] == [f"net{suffix}"]
    assert (tmp_path / f"net{suffix}").read_text() == "the artifact of yesterday"


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    for path in (tmp_path / "missing" / "net.onnx", Path("/proc/net.onnx")):
        with pytest.raises(ArtifactError, match="cannot be written"):
            export(explainable, path, images(1))
    (tmp_path / "folder.ts").mkdir()
    with pytest.raises(ArtifactError, match="is a directory"):
        export(explainable, tmp_path / "folder.ts", images(1))
    with pytest.raises(
        ArtifactError, match=r"suffix '\.engine', which stands for no format; known formats: torchscript"
    ):
        export(explainable, tmp_path / "net.engine", images(1))
    with pytest.raises(ArtifactError, match="Unknown format 'tensorrt'"):
        export(explainable, tmp_path / "net.onnx", images(1), format="tensorrt")


def test_wrong_descriptions(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    with pytest.raises(InputError, match="class_names has 2 names; the network has 5"):
        export(explainable, tmp_path / "net.ts", images(1), class_names=["cat", "dog"])
    with pytest.raises(InputError, match=r"preprocess makes \(3, \*\(64, 64\)\).*example image is \(3, \*\(32, 32\)\)"):
        export(explainable, tmp_path / "net.ts", images(1), preprocess=Preprocess(size=(64, 64)))
    with pytest.raises(InputError, match="export needs an example image"):
        export(explainable, tmp_path / "net.ts")
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_by_format(tmp_path: Path) -> None:
    path = export(ExplainableModel(seeded(TinyResNet()), "layer2"), tmp_path / "net.pt", images(1))
    assert read_metadata(path).format == "torchscript"


def test_a_write_that_the_system_refuses_leaves_nothing(tmp_path: Path) -> None:
    code = f"""
import os, resource
from explainable_model import ExplainableModel, export, lower
from explainable_model.errors import ArtifactError
from tests.support.nets import TinyResNet, images, seeded
lowered = lower(ExplainableModel(seeded(TinyResNet()), "layer2"), images(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # no file may grow beyond this
for suffix in {SUFFIXES}:
    try:
        export(lowered, {str(tmp_path)!r} + "/net" + suffix)
    except ArtifactError as error:
        assert "nothing was left behind" in str(error), error
    else:
        raise AssertionError(suffix)
    assert os.listdir({str(tmp_path)!r}) == [], suffix
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=Path(__file__).parents[2])
