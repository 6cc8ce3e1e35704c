"""float16 and int8: what they are made of, how they agree with float32, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, LoweredModel, Preprocess, export, load, read_metadata
from explainable_model.artifact.reference import check_reference
from explainable_model.artifact.tolerances import AgreementBound
from explainable_model.demo import PREPROCESS, TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.errors import AgreementWarning, InputError, VerificationError
from explainable_model.exporters.onnx import open_
from explainable_model.exporters.onnx_precision import EXACT_CONVOLUTIONS, _explained_ranges
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import open_photo
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.verify.agreement import measure_agreement, require_agreement
from explainable_model.verify.calibration import MINIMUM, resize_photo
from explainable_model.verify.parity import correlation
from tests.support import shared
from tests.support.cli_run import NAMED, Run
from tests.support.nets import TinyResNet, images


@pytest.fixture(scope="module")
def made() -> tuple[ExplainableModel, LoweredModel]:
    return shared.explained(TinyResNet, "layer1"), shared.lowered(TinyResNet, "layer1")


def folder_of(path: Path, count: int) -> Path:
    """Photos of noise."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for n in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path / f"{n}.png")
    return path


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_maps_and_metadata(precision: Any, made: tuple[ExplainableModel, LoweredModel], tmp_path: Path) -> None:
    explainable, lowered = made
    told: list[tuple[str, int, int]] = []
    path = export(
        lowered, tmp_path / "net.onnx", precision=precision, calibration=images(12, seed=3),
        progress=lambda *step: told.append(step),
    )  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    metadata = read_metadata(path)
    assert (metadata.precision, metadata.dtype) == (precision, "float32")
    agreement = metadata.agreement
    assert agreement is not None
    assert (agreement["images"], agreement["photos"]) == (12, True)
    assert sum(each["images"] for each in agreement["by_class"]) == 12
    assert agreement["min_correlation"] <= agreement["correlation"] <= 1
    assert told[-1] == ("comparing", 12, 12)
    assert (("calibrating", 12, 12) in told) is (precision == "int8")
    session = load(path)
    for batch in (1, 3):
        fresh = images(batch, seed=40 + batch)
        want = explainable(fresh)
        got = session(fresh, want.class_idx)
        assert got.cam.dtype == got.logits.dtype == np.float32
        assert want.cam.max() > 0.5
        bound = 0.99 if precision == "float16" else 0.95
        assert min(correlation(a, b) for a, b in zip(got.cam, want.cam.numpy(), strict=True)) > bound
    assert session(images(1), torch.tensor([2])).class_idx.tolist() == [2]


def test_int8_is_the_way_to_the_logits(made: tuple[ExplainableModel, LoweredModel], tmp_path: Path) -> None:
    model = onnx.load(export(made[1], tmp_path / "net.onnx", precision="int8", calibration=images(8, seed=3).numpy()))
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    quantized = {n: w for n, w in weights.items() if n.endswith("_quantized") and w.ndim == 4}
    # Of 7 convolutions the gradient reads the weights of 2, the strided ones after the layer.
    assert len(quantized) == 5 - EXACT_CONVOLUTIONS
    assert all(w.dtype == np.int8 and np.abs(w).max() <= 64 for w in quantized.values()), "7 bits"
    scales = [weights[n.replace("_quantized", "_scale")] for n in quantized]
    assert [s.shape for s in scales] == [w.shape[:1] for w in quantized.values()], "per channel"
    producers = {o: n for n in model.graph.node for o in n.output}
    backward = [n for n in model.graph.node if n.op_type == "ConvTranspose"]
    assert backward
    assert all(producers[n.input[0]].op_type != "DequantizeLinear" for n in backward), "gradients stay float32"
    assert weights["fc_weight"].dtype == np.float32, "the gradient reads it too"


def test_float16_needs_no_photos_and_halves_the_weights(
    made: tuple[ExplainableModel, LoweredModel], tmp_path: Path
) -> None:
    path = export(made[1], tmp_path / "net.onnx", precision="float16")
    metadata = read_metadata(path)
    assert metadata.agreement is not None
    assert (metadata.agreement["images"], metadata.agreement["photos"]) == (MINIMUM, False)
    large = [i for i in onnx.load(path).graph.initializer if np.prod(i.dims) > 100 and i.name != "position_weights"]
    assert large
    assert all(i.data_type == onnx.TensorProto.FLOAT16 for i in large)


def runner(cam: np.ndarray, class_idx: int) -> Any:
    return lambda image, asked: (np.zeros((1, 3)), np.where(asked == -1, class_idx, asked), cam)


def test_agreement_by_hand() -> None:
    ramp = np.arange(4.0).reshape(1, 2, 2)
    batches = [np.zeros((1, 1, 2, 2))] * 4
    same = measure_agreement(runner(ramp, 1), runner(ramp * 2, 1), batches, [1])
    assert (same.images, same.classes, same.by_class) == (
        4, 1.0, [{"class_idx": 1, "images": 4, "classes": 1.0, "correlation": pytest.approx(1.0)}],
    )  # fmt: skip
    require_agreement(same, "int8")
    other = measure_agreement(runner(ramp, 1), runner(-ramp, 2), batches, [1], photos=False)
    assert (other.classes, other.min_correlation) == (0.0, pytest.approx(-1.0))
    message = r"same class for 0% of 4 made-up images .*correlate by -1\.000.*at least 75% and 0\.9\. Nothing was"
    with pytest.raises(VerificationError, match=message):
        require_agreement(other, "int8")
    broken = measure_agreement(runner(ramp, 1), runner(ramp * np.nan, 1), batches, [1])
    assert broken.correlation == 0
    with pytest.raises(VerificationError):
        require_agreement(broken, "float16")


def predicting(answers: list[int]) -> Any:
    """A runner that predicts these classes in turn, with a map that never changes."""
    turn = iter(answers)
    ramp = np.arange(4.0).reshape(1, 2, 2)

    def run(image: Any, asked: Any) -> Any:
        return np.zeros((1, 3)), np.where(asked == -1, next(turn) if asked.min() < 0 else 0, asked), ramp

    return run


def test_classes_that_are_lost_are_named() -> None:
    full = [0] * 12 + [1] * 5 + [2] * 3  # 20 images
    batches = [np.zeros((1, 1, 2, 2))] * len(full)
    rare = measure_agreement(predicting(full), predicting([0] * 12 + [1] * 5 + [0] * 3), batches, [1])
    message = r"int8 the network predicts the same class for 85% of 20 photos \(for none of those of class 2\); 95% are"
    with pytest.warns(AgreementWarning, match=message):
        require_agreement(rare, "int8")
    with pytest.warns(AgreementWarning, match=r"none of those of class bird\)"):
        require_agreement(rare, "int8", ["cat", "dog", "bird"])
    with pytest.raises(VerificationError, match=r"85% of 20 photos \(for none of those of class bird\), and its maps"):
        require_agreement(rare, "float16", ["cat", "dog", "bird"])
    one = measure_agreement(predicting(full), predicting([1, *full[1:]]), batches, [1])
    assert one.classes == 0.95
    require_agreement(one, "int8")  # no warning
    half = measure_agreement(predicting(full), predicting([0] * 12 + [0] * 8), batches, [1])
    with pytest.raises(VerificationError, match=r"60% of 20 photos \(for none of those of class 1, 2\).*at least 75%"):
        require_agreement(half, "int8")


def test_images_that_hardly_differ_are_refused() -> None:
    """ONNX Runtime's calibration makes a histogram of 2048 bins."""
    with pytest.raises(InputError, match="hardly differ, so the activations have no range"), _explained_ranges():
        np.histogram(np.array([1.0, np.nextafter(1.0, 2.0)]), bins=2048)
    with pytest.raises(ValueError, match="something else"), _explained_ranges():
        raise ValueError("something else")


def test_an_artifact_that_disagrees_is_not_written(
    made: tuple[ExplainableModel, LoweredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_text("the artifact of yesterday")
    monkeypatch.setattr("explainable_model.verify.agreement.AGREEMENTS", {"int8": AgreementBound(1.0, 0.999999)})
    with pytest.raises(VerificationError, match=r"In int8 the network predicts .*expected at least 100%.*Nothing was"):
        export(made[1], tmp_path / "net.onnx", precision="int8", calibration=images(8, seed=3))
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert (tmp_path / "net.onnx").read_text() == "the artifact of yesterday"


def test_bad_requests(
    made: tuple[ExplainableModel, LoweredModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered, path = made[1], tmp_path / "net.onnx"

    def refused(message: str, **options: Any) -> None:
        target = options.pop("path", path)
        with pytest.raises(InputError, match=message):
            export(options.pop("model", lowered), target, **options)
        assert not target.exists()

    refused("precision='int8' needs calibration", precision="int8")
    refused("Unknown precision 'int4'; known: float16, int8", precision="int4")
    refused("format torchscript is written in the network's own", precision="float16", path=tmp_path / "net.ts")
    refused("calibration is for precision='int8'", calibration=images(8))
    arrays = {"precision": "int8"}
    with monkeypatch.context() as patch:  # before any work is done
        patch.setattr("explainable_model.exporters.pipeline.lower", None)
        few = folder_of(tmp_path / "few", 3)
        for model in (lowered, made[0]):
            refused("7 image.*expected 8 or more", calibration=images(7), model=model, **arrays)
            refused("3 image.*expected 8 or more", calibration=few, model=model, **arrays)
        refused(
            "Nothing says how a photo becomes the network", calibration=[*few.iterdir()] * 3, model=made[0], **arrays
        )
    refused(
        r"float32 of shape \(8, 3, 16, 16\); expected float32 of shape \(N, 3, 32",
        calibration=images(8, (3, 16, 16)),
        **arrays,
    )
    refused("are float64 of shape", calibration=images(8).double(), **arrays)
    refused("NaN or infinite", calibration=images(8) / 0, **arrays)
    refused("not a folder", calibration=tmp_path / "nowhere", **arrays)
    (tmp_path / "empty").mkdir()
    refused("holds no photo", calibration=tmp_path / "empty", **arrays)
    photos = folder_of(tmp_path / "photos", 8)
    refused("Nothing says how a photo becomes the network's input", calibration=photos, **arrays)
    (photos / "9.png").write_bytes(b"not a picture")
    preprocess = Preprocess(size=(32, 32))
    refused(r"9\.png is not a picture", calibration=photos, preprocess=preprocess, **arrays)


@pytest.mark.parametrize(
    ("precision", "pixels", "resize"),
    [("float16", "NCHW", None), ("int8", "NHWC", 40), pytest.param("int8", "NCHW", None, id="int8 of an array")],
)
def test_an_artifact_that_takes_photos(
    precision: Any, pixels: str, resize: int | None, made: tuple[ExplainableModel, LoweredModel], tmp_path: Path
) -> None:
    preprocess = Preprocess((32, 32), resize=resize)
    options = {"preprocess": preprocess, "pixels": pixels, "render": "overlay"}
    full = load(export(made[1], tmp_path / "full.onnx", **options))
    photos: Any = folder_of(tmp_path / "photos", 8) if precision == "int8" else None
    if (precision, pixels) == ("int8", "NCHW"):
        photos = np.concatenate([AsDecoded(pixels)(open_photo(each)) for each in sorted(photos.iterdir())])
    path = export(made[1], tmp_path / "reduced.onnx", precision=precision, calibration=photos, **options)
    session = load(path)
    assert (session.metadata.precision, session.metadata.pixels) == (precision, pixels)
    assert check_reference(session.metadata, open_(path, 1)[0]) == ""
    rng = np.random.default_rng(1)
    for size in ((90, 61), (31, 57)):
        photo = Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)).resize(size)
        image = session.metadata.preparation(photo)
        want = full(image)
        got = session(image, want.class_idx)
        assert got.cam.shape == want.cam.shape == (1, *size[::-1])
        assert got.overlay.shape == image.shape
        assert want.cam.max() > 0.5
        assert correlation(got.cam[0], want.cam[0]) > 0.95
    nodes = onnx.load(path).graph.node
    producers = {output: node.op_type for node in nodes for output in node.output}
    stem = next(node for node in nodes if node.op_type == "Conv")
    assert (producers[stem.input[0]] == "Cast") is (precision == "float16")  # the image is prepared in float32
    resizing = [node for node in nodes if node.op_type == "Resize"]
    assert {producers.get(node.input[0]) for node in resizing} & {"DequantizeLinear"} == set()


@pytest.mark.parametrize("pixels", ["NCHW", "NHWC"])
@pytest.mark.parametrize("resize", [None, 40])
def test_photos_to_calibrate_with_become_the_same_image(pixels: str, resize: int | None) -> None:
    preprocess = Preprocess((24, 32), resize=resize, interpolation="bicubic")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (51, 77, 3), dtype=np.uint8))
    frame = PhotoIO(preprocess, pixels)
    small = frame.image(torch.from_numpy(resize_photo(photo, preprocess, AsDecoded(pixels))[None]))
    whole = frame.image(torch.from_numpy(AsDecoded(pixels)(photo)))
    assert (small - whole).abs().max() * 255 * max(preprocess.std) < 1.01  # one level


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    photos, path = folder_of(tmp_path / "photos", 8), tmp_path / "net.onnx"
    options = ("export", "--model", NAMED, "--batch", 2, "--precision", "int8", "--calibrate", photos, "-o", path)
    run = Run(capsys, *options)
    assert run.code == 0, run.err
    head, *lines = run.out.splitlines()
    assert "Smallest correlation of two maps" in head
    assert lines[0].split("  ")[0] == "predicted in float32"
    assert lines[-1].split()[:2] == ["all", "8"]
    metadata = read_metadata(path)
    assert (metadata.precision, metadata.batch) == ("int8", 2)
    assert Run(capsys, "verify", path).code == 0
    run = Run(capsys, "verify", path, "--model", NAMED)
    assert run.code == 2
    assert "int8, which agrees with the network on photos alone" in run.err
    run = Run(capsys, "inspect", path, "--json")
    assert json.loads(run.out)["agreement"]["images"] == 8


def test_real_weights_in_int8(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for photo in demo_photos():
        whole = open_photo(photo)
        w, h = whole.size
        views = (whole, whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT), whole.crop((w // 20, h // 20, w, h)))
        for n, view in enumerate(views):
            view.save(tmp_path / "photos" / f"{photo.stem}{n}.png")
    named = efficientnet_lite0()
    path = export(
        ExplainableModel(named.model, TARGET_LAYER), tmp_path / "lite0.onnx", torch.zeros(1, 3, 224, 224),
        preprocess=PREPROCESS, precision="int8", calibration=tmp_path / "photos",
    )  # fmt: skip
    assert path.stat().st_size < 10e6  # 18.6 MB in float32
    agreement = read_metadata(path).agreement
    assert agreement is not None
    assert agreement["images"] == 9
    assert agreement["classes"] >= 0.75
    assert agreement["correlation"] >= 0.95
