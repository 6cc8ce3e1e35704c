"""The C++ programs of the kits, built with the address and undefined behavior sanitizers, against Python."""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from kits import Kit, compute_softmax
from pictures import make_unreadable, write_readable
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, from_onnx, load
from explainable_model.imaging.overlay import overlay
from explainable_model.imaging.preprocess import open_photo

METADATA_KEY = "explainable_model.json"


def test_a_photo_gets_eagers_answer(kit: Kit, lite0: Path, photos: list[Path], eager, tmp_path: Path) -> None:
    jpeg = tmp_path / "chelsea.jpg"
    Image.open(photos[0]).save(jpeg, quality=90)
    for photo, class_idx in ((photos[0], -1), (photos[1], -1), (jpeg, -1), (photos[0], 282)):
        wanted = [] if class_idx == -1 else ["--class", class_idx]
        found = kit.explain(photo, lite0, *wanted, "--npy", tmp_path / "cam.npy")
        logits, explained, cam = eager(photo, class_idx)
        odds = compute_softmax(logits)
        assert found["class_idx"] == explained[0]
        assert found["probability"] == pytest.approx(odds[explained[0]], abs=1e-5)
        assert [entry["class_idx"] for entry in found["top"]] == list(np.argsort(-odds)[:5])
        heatmap = np.load(tmp_path / "cam.npy")
        assert heatmap.shape == (224, 224)
        assert np.abs(heatmap - cam[0]).max() < 1e-5
        assert heatmap.max() > 0.99


def test_an_artifact_answers_as_in_python(kit: Kit, lite0: Path, photos: list[Path], network, tmp_path: Path) -> None:
    found = kit.explain(photos[1], lite0, "-o", tmp_path / "overlay.png", "--npy", tmp_path / "cam.npy")
    session = load(lite0, threads=1)
    logits, explained, cam = session(network.preprocess(open_photo(photos[1])))
    heatmap = np.load(tmp_path / "cam.npy")
    assert found["class_name"] == "espresso" == session.metadata.class_names[explained[0]]
    assert np.array_equal(heatmap, cam[0])
    assert found["probability"] == pytest.approx(compute_softmax(logits)[explained[0]], rel=1e-12)
    drawn = np.asarray(Image.open(tmp_path / "overlay.png"))
    wanted = np.asarray(overlay(open_photo(photos[1]), heatmap, box=tuple(found["box"])))
    assert drawn.shape == wanted.shape
    assert np.abs(drawn.astype(int) - wanted).max() <= 1


def test_signed_maps_are_drawn_around_zero(kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    path = export(
        ExplainableModel(network.eval(), "1", signed=True, normalize="max"), tmp_path / f"signed{kit.suffix}",
        torch.zeros(1, 3, 40, 40), preprocess=Preprocess((40, 40), resize=48),
    )  # fmt: skip
    found = kit.explain(photos[1], path, "--npy", tmp_path / "cam.npy", "-o", tmp_path / "overlay.png")
    heatmap = np.load(tmp_path / "cam.npy")
    assert heatmap.min() < -0.1
    assert heatmap.max() > 0.1
    drawn = np.asarray(Image.open(tmp_path / "overlay.png")).astype(int)
    box = tuple(found["box"])
    wanted = np.asarray(overlay(open_photo(photos[1]), heatmap, signed=True, box=box))
    assert np.abs(drawn - wanted).max() <= 1


@pytest.mark.parametrize("pixels", ["NCHW", "NHWC"])
def test_an_artifact_that_prepares_photos(kit: Kit, photos: list[Path], pixels: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    path = export(
        ExplainableModel(network.eval(), "1"), tmp_path / f"photos{kit.suffix}", torch.zeros(1, 3, 40, 40),
        preprocess=Preprocess((40, 40), resize=48), pixels=pixels,
    )  # fmt: skip
    found = kit.explain(photos[1], path, "--npy", tmp_path / "cam.npy", "-o", tmp_path / "overlay.png")
    session, photo = load(path, threads=1), open_photo(photos[1])
    _, explained, cam = session(session.metadata.preparation(photo))
    assert found["class_idx"] == explained[0]
    assert found["box"] == [0, 0, *photo.size]
    np.testing.assert_allclose(np.load(tmp_path / "cam.npy"), cam[0], atol=2e-6)
    with Image.open(tmp_path / "overlay.png") as drawn:
        assert drawn.size == photo.size


def test_an_explained_file_keeps_the_name_of_its_input(quick_kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    """The record names the input for the image."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    image, plain = torch.randn(1, 3, 40, 40), str(tmp_path / "plain.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that torch.onnx had before
        torch.onnx.export(network.eval(), (image,), plain, input_names=["pixel_values"], dynamo=False)
    explainable, preparation = ExplainableModel(from_onnx(plain)), Preprocess((40, 40), resize=48)
    path = export(explainable, tmp_path / "explained.onnx", image, preprocess=preparation)
    assert load(path).metadata.graph_inputs == ["pixel_values", "class_idx"]
    quick_kit.explain(photos[1], path, "--npy", tmp_path / "cam.npy")
    _, _, cam = load(path, threads=1)(preparation(open_photo(photos[1])))
    assert np.array_equal(np.load(tmp_path / "cam.npy"), cam[0])


def test_an_artifact_that_takes_gray_photos_is_refused(quick_kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    """The kits decode photos as RGB; Python reads such an artifact."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    path = export(
        ExplainableModel(network.eval(), "1"), tmp_path / "gray.onnx", torch.zeros(1, 1, 40, 40),
        preprocess=Preprocess((40, 40), mean=(0.5,), std=(0.5,), resize=48), pixels="NHW",
    )  # fmt: skip
    assert "pixels is NHW, expected NCHW or NHWC" in quick_kit.refuses(photos[0], path)


def test_threads_get_their_own_answers(kit: Kit, lite0: Path, photos: list[Path]) -> None:
    kit.check("threads", lite0, *photos)


def test_images_that_do_not_fit_are_refused(kit: Kit, lite0: Path) -> None:
    kit.check("refusals", lite0)


def test_the_bench_measures(kit: Kit, lite0: Path, photos: list[Path]) -> None:
    bench = kit.explain(photos[0], lite0, "--bench", "--calls", 12, "--callers", 3)["bench"]
    assert (bench["calls"], bench["callers"]) == (12, 3)
    assert 0 < bench["p50_ms"] <= bench["p90_ms"] <= bench["p99_ms"]
    assert 0 < bench["cpu_ms"] < 1000
    printed = kit.run("explain", photos[0], lite0, "--bench", "--calls", 2, "--threads", 1).stdout
    assert "Egyptian cat, 79.1%" in printed
    assert "2 calls by 1 caller(s): p50" in printed


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((40, 40)),
        Preprocess((40, 40), resize=48, interpolation="bicubic"),
        Preprocess((30, 64), (0.5,), (0.25,), resize=50, interpolation="lanczos"),
        Preprocess((150, 120), interpolation="bicubic"),
        Preprocess((50, 33), resize=30, interpolation="nearest"),
    ],
    ids=lambda preprocess: f"{preprocess.interpolation}{preprocess.size}",
)
def test_every_kind_of_picture_becomes_pillows_pixels(
    quick_kit: Kit, preprocess: Preprocess, photos: list[Path], tmp_path: Path
) -> None:
    record = {
        **dict.fromkeys(("format", "model", "method", "target_layer"), "any"),
        **{"schema_version": 1, "dtype": "float32", "classes": 2, "cam_range": [0, 1]},
        "image_shape": [None, len(preprocess.mean), *preprocess.size],
        "logits_shape": [None, 2],
        "cam_shape": [None, *preprocess.size],
        "preprocess": asdict(preprocess),
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    photo = Image.open(photos[1]).resize((121, 83))
    for path in write_readable(photo, tmp_path):
        quick_kit.check("image", tmp_path / "record.json", path, tmp_path / "image.npy")
        image, wanted = np.load(tmp_path / "image.npy"), preprocess(open_photo(path))
        assert image.shape == wanted.shape
        levels = np.abs(image - wanted).max() * 255 * preprocess.std[0]
        assert levels < 1.01, path.name  # versions of Pillow and libjpeg differ by one


def test_damaged_files_are_read_or_refused(quick_kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.open(photos[1]).resize((61, 43))
    for name, options in (
        ("a.jpg", {"progressive": True}),
        ("b.jpg", {}),
        ("c.png", {}),
        ("d.png", {"compress_level": 1}),
    ):
        photo.save(tmp_path / name, exif=exif, **options)
        quick_kit.check("damage", tmp_path / name)


def test_files_that_are_no_photo(
    quick_kit: Kit, artifact: Callable[[str, str], Path], photos: list[Path], tmp_path: Path
) -> None:
    lite0 = artifact(quick_kit.name, quick_kit.suffix)
    for name, (content, message) in make_unreadable(Image.open(photos[1]).resize((301, 203))).items():
        path = tmp_path / name
        path.write_bytes(content)
        refusal = quick_kit.refuses(path, lite0, "-o", tmp_path / "overlay.png", code=1)
        assert name in refusal
        assert message in refusal
    assert "There is no file" in quick_kit.refuses(tmp_path / "none.jpg", lite0, code=1)
    assert "is not a file" in quick_kit.refuses("/dev/null", lite0, code=1)
    assert not (tmp_path / "overlay.png").exists()


def test_files_that_are_no_artifact(kit: Kit, lite0: Path, photos: list[Path], tmp_path: Path) -> None:
    def read_refusal(content: bytes, suffix: str = kit.suffix) -> str:
        path = tmp_path / f"artifact{suffix}"
        path.write_bytes(content)
        return kit.refuses(photos[0], path)

    whole = lite0.read_bytes()
    failed = "cannot be loaded" if kit.name == "libtorch" else "is damaged or not an ONNX model"
    assert failed in read_refusal(b"")
    assert failed in read_refusal(b"this is no artifact")
    assert failed in read_refusal(whole[: len(whole) // 2])
    assert "There is no artifact" in kit.refuses(photos[0], tmp_path / f"none{kit.suffix}")
    assert "was not exported by explainable_model" in read_refusal(make_foreign(lite0, None))
    assert "is of schema 99, this program reads up to 1" in read_refusal(make_foreign(lite0, '{"schema_version": 99}'))
    assert "has metadata that cannot be read" in read_refusal(make_foreign(lite0, '{"schema_version": 1}'))
    assert "has metadata that cannot be read" in read_refusal(make_foreign(lite0, "not JSON"))
    if kit.name == "libtorch":
        assert "libtorch runs TorchScript" in read_refusal(whole, ".onnx")


class Rectify(nn.Module):
    """One operator, and no function of Python that the file would have to hold."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.relu(image)


def make_foreign(lite0: Path, record: str | None) -> bytes:
    """A small model of that runtime with other metadata, or without any."""
    copy = lite0.with_name(f"foreign{lite0.suffix}")
    if lite0.suffix == ".ts":
        extra = {} if record is None else {METADATA_KEY: record}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit warns that it is deprecated
            torch.jit.save(torch.jit.script(Rectify()), str(copy), _extra_files=extra)
        return copy.read_bytes()
    import onnx

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["image"], ["cam"])],
            "relu",
            [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1])],
            [onnx.helper.make_tensor_value_info("cam", onnx.TensorProto.FLOAT, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    if record is not None:
        onnx.helper.set_model_props(model, {METADATA_KEY: record})
    return model.SerializeToString()
