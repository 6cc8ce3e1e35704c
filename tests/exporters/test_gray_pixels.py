"""Artifacts that take gray photos, of 8 or 16 bits, as they are: against preparing them with Pillow and NumPy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import explainable_model as xm
from explainable_model import ExplainableModel, Preprocess, export, load, read_metadata
from explainable_model.artifact.metadata import parse_metadata
from explainable_model.errors import ArtifactError, InputError
from explainable_model.evaluation.subject import Subject
from explainable_model.explainer.explainer import session_explainer
from explainable_model.explanation import DrawnExplanation
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import OverlayStyle, overlay
from explainable_model.imaging.preprocess import open_photo
from explainable_model.imaging.window import Window, find_values, tabulate_levels, to_eight_bits
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.lowering.pixels import read_levels
from explainable_model.serving import Request, Service
from tests.serving.test_serving import ask
from tests.support.cli_run import NAMED, Run

SIZE = (24, 32)
TWELVE_BITS = (0, 4095)
WINDOWS = [(0, 65535), TWELVE_BITS, (100, 610), (1000.5, 1300.25), (65000, 65535)]  # of (100, 610) half are half-way


def prepare(channels: int, window: Window | None = TWELVE_BITS) -> Preprocess:
    return Preprocess(SIZE, (0.5, 0.4, 0.3)[:channels], (0.2, 0.3, 0.4)[:channels], resize=36, window=window)


def network(channels: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


def film(height: int, width: int, high: int = 5000, dtype: str = "uint16") -> Any:
    """Values that leave the window of 12 bits at its upper end."""
    return np.random.default_rng(height).integers(0, high, (height, width)).astype(dtype)


@pytest.mark.parametrize("window", WINDOWS)
def test_every_value_has_the_host_s_level(window: Window) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    wanted = np.asarray(to_eight_bits(Image.fromarray(values), window))
    assert np.array_equal(tabulate_levels(window).reshape(256, 256), wanted)
    found = read_levels(torch.from_numpy(values)[None], "NHW", window)
    assert np.array_equal(found[0, 0].numpy(), wanted)
    if window[1] - window[0] > 300:
        assert np.array_equal(tabulate_levels(window)[find_values(window)], np.arange(256))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_image_is_the_host_s(channels: int, dtype: str, interpolation: str) -> None:
    preprocess = Preprocess((64, 64), (0.0,) * channels, (1.0,) * channels, None, interpolation, TWELVE_BITS)
    values = film(150, 227, 256 if dtype == "uint8" else 5000, dtype)
    photos = torch.from_numpy(np.stack([values, values[::-1]]))
    got = PhotoIO(preprocess, "NHW", pixel_dtype=dtype).image(photos).numpy()
    wanted = np.concatenate([preprocess(Image.fromarray(each)) for each in (values, values[::-1].copy())])
    assert got.shape == (2, channels, 64, 64)
    assert (np.abs(got - wanted) > 1e-6).mean() < 0.01


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_overlay_is_the_gray_photo_under_its_map(dtype: str) -> None:
    values = film(90, 130, 256 if dtype == "uint8" else 5000, dtype)
    preprocess = Preprocess(SIZE, 0.5, 0.5, window=TWELVE_BITS)  # type: ignore[arg-type]
    look = OverlayStyle(alpha=0.4).suited(signed=False)
    frame = PhotoIO(preprocess, "NHW", look, pixel_dtype=dtype)
    cam = torch.rand(2, 2, 90, 130, generator=torch.Generator().manual_seed(0))
    drawn = frame.overlay(cam, torch.from_numpy(np.stack([values, values])))
    assert (drawn.shape, drawn.dtype) == ((2, 2, 90, 130, 3), torch.uint8)
    wanted = np.asarray(overlay(Image.fromarray(values), cam[1, 0].numpy(), alpha=0.4, box=preprocess))
    off = np.abs(drawn[1, 0].numpy().astype(int) - wanted)
    assert off.max() <= 1
    assert off.mean() < 0.002


def test_a_picture_reaches_the_artifact_with_its_own_levels() -> None:
    decode = AsDecoded("NHW", TWELVE_BITS, "uint16")
    colors = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    for picture in (Image.fromarray(film(20, 30)), colors, colors.convert("L")):
        got = decode(picture)
        wanted = picture if picture.mode != "I;16" else to_eight_bits(picture, TWELVE_BITS)
        assert got.shape == (1, 20, 30)
        assert got.dtype == np.uint16
        assert np.array_equal(tabulate_levels(TWELVE_BITS)[got[0]], np.asarray(wanted.convert("L")))
    assert np.array_equal(AsDecoded("NHW")(colors)[0], np.asarray(colors.convert("L")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": "NCHW", "pixel_dtype": "uint16"}, "uint16 is for gray photos, and pixels='NCHW' for RGB"),
        ({"pixel_dtype": "uint16"}, "pixels='NHW'"),
        ({"pixels": "NHW", "pixel_dtype": "int32"}, "expected uint8 or uint16"),
        ({"pixels": "NHW", "pixel_dtype": "uint16", "preprocess": prepare(1, None)}, r"window=\(0, 4095\)"),
        ({"pixels": "NHW", "pixel_dtype": "uint16", "preprocess": prepare(1, (0, 1))}, "255 wide or more"),
        ({"pixels": "NHW", "pixel_dtype": "uint16", "preprocess": prepare(1, (-1024, 3071))}, "inside of"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    explainable = ExplainableModel(network(1), "2")
    with pytest.raises(InputError, match=message):
        export(explainable, tmp_path / "a.onnx", torch.zeros(2, 1, *SIZE), **{"preprocess": prepare(1), **arguments})
    assert not list(tmp_path.iterdir())


def made(path: Path, channels: int = 1, dtype: str = "uint16", **options: Any) -> Path:
    return export(
        ExplainableModel(network(channels), "2"), path, torch.zeros(2, channels, *SIZE), preprocess=prepare(channels),
        pixels="NHW", pixel_dtype=dtype, render="overlay", **options,
    )  # fmt: skip


def test_a_record_that_no_export_writes_is_refused(tmp_path: Path) -> None:
    record = read_metadata(made(tmp_path / "a.ts")).to_dict()
    for changes, message in (
        ({"pixels": "NCHW"}, "dimensions"), ({"pixel_dtype": "int32"}, "pixel_dtype is 'int32'"),
        ({"pixel_dtype": "uint16", "pixels": None}, "are gray"),
        ({"preprocess": {**record["preprocess"], "window": None}}, "have a window"),
        ({"preprocess": {**record["preprocess"], "window": [0, 1]}}, "255 wide"),
    ):  # fmt: skip
        with pytest.raises(ArtifactError, match=message):
            parse_metadata(json.dumps({**record, **changes}), Path("a.ts"))
    del record["pixel_dtype"]
    assert parse_metadata(json.dumps(record), Path("a.ts")).image_dtype == "uint8"  # as earlier versions wrote it


def check_answers(path: Path, channels: int, dtype: str) -> None:
    """Two sizes and batches of another number than the example's, by the session and by ``explain``."""
    session, high = load(path), 256 if dtype == "uint8" else 5000
    explainable, frame = ExplainableModel(network(channels), "2"), PhotoIO(prepare(channels), "NHW", pixel_dtype=dtype)
    for batch, (height, width) in ((1, (50, 61)), (3, (20, 90))):
        photos = np.stack([film(height + n, width, high, dtype)[:height] for n in range(batch)])
        answer = session(photos)
        assert isinstance(answer, DrawnExplanation)
        assert answer.overlay.shape == (batch, height, width, 3)
        for n, photo in enumerate(photos):
            host = xm.explain(photo, network(channels), target_layer="2", preprocess=prepare(channels))
            assert np.abs(host.logits - answer.logits[n]).max() < 1e-3
            ours = xm.explain(photo, path)
            assert np.abs(ours.logits - answer.logits[n]).max() < 1e-5
            assert np.abs(ours.cam - answer.cam[n]).max() < 1e-5
            photo_n, prepared = torch.from_numpy(photos[n : n + 1]), prepare(channels)(Image.fromarray(photo))
            # In noise, a level that rounds the other way than in Pillow moves the map of a small network.
            for image, most in ((frame.image(photo_n), 2e-3), (torch.from_numpy(prepared), 0.02)):
                maps = frame.maps(explainable(image).cam, photo_n)[0].numpy()
                assert np.abs(maps - answer.cam[n]).max() < most
            left, top, right, bottom = (round(edge) for edge in prepare(channels).box(width, height))
            off = np.abs(np.asarray(ours.overlay()).astype(float) - answer.overlay[n])
            assert np.median(off[top:bottom, left:right]) <= 2


@pytest.mark.parametrize(
    ("suffix", "channels", "dtype"),
    [(".ts", 3, "uint8"), (".ts", 1, "uint16"), (".onnx", 1, "uint16"), (".pt2", 3, "uint16"), (".xml", 3, "uint16")],
)
def test_artifact_is_the_host_s_steps(suffix: str, channels: int, dtype: str, tmp_path: Path) -> None:
    path = made(tmp_path / f"a{suffix}", channels, dtype)
    check_answers(path, channels, dtype)
    record = read_metadata(path).to_dict()
    most = 255 if dtype == "uint8" else 65535
    assert record["inputs"]["image"] == {"shape": [None, None, None], "dtype": dtype, "range": [0, most]}
    assert record["outputs"]["overlay"]["shape"] == [None, None, None, 3]


def test_what_else_takes_the_artifact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = made(tmp_path / "a.ts", 3)
    session, values = load(path), film(50, 61)
    with pytest.raises(InputError, match="uint8; a.ts expects uint16: photos as decoded"):
        session(values[None].astype(np.uint8))
    with pytest.raises(InputError, match=r"expects \(N, H, W\)"):
        session(values[None, None])
    Image.fromarray(values).save(tmp_path / "film.png")
    host = xm.explain(tmp_path / "film.png", network(3), target_layer="2", preprocess=prepare(3))
    run = Run(capsys, "explain", tmp_path / "film.png", "--artifact", path, "--out", tmp_path, "--json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["photos"][0]["class_idx"] == host.class_idx
    assert Run(capsys, "verify", path).code == 0
    other = xm.explain(tmp_path / "film.png", path, window=(0, 9000))  # a window of this photo's own
    wanted = xm.explain(tmp_path / "film.png", network(3), target_layer="2", preprocess=prepare(3), window=(0, 9000))
    assert np.abs(other.logits - wanted.logits).max() < 1e-3
    subject = Subject(session_explainer(session))
    prepared = subject.prepare(open_photo(tmp_path / "film.png", TWELVE_BITS))
    assert prepared.shape == (1, 50, 61)
    assert np.abs(subject.predict(prepared[None]) - np.asarray(host.probabilities)).max() < 1e-3


def test_the_server_answers_as_the_host(tmp_path: Path) -> None:
    path = made(tmp_path / "a.ts")
    Image.fromarray(film(50, 61)).save(tmp_path / "film.png")
    session = load(path)
    host = xm.explain(tmp_path / "film.png", network(1), target_layer="2", preprocess=prepare(1))
    service = Service(session, session.metadata)
    (answer,) = ask(service, Request({"image": (tmp_path / "film.png").read_bytes()}))
    record = json.loads(answer.body)
    assert record["class_idx"] == host.class_idx
    assert record["score"] == pytest.approx(host.score, abs=1e-3)
    assert record["size"] == [61, 50]


def test_the_command_line_exports_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--pixels", "NHW", "--pixel-dtype", "uint16", "--window", "0,4095", "--render", "overlay")
    run = Run(capsys, "export", "--model", NAMED, *options, "-o", tmp_path / "a.ts")
    assert run.code == 0, run.err
    metadata = read_metadata(tmp_path / "a.ts")
    assert metadata.preprocess is not None
    assert (metadata.pixels, metadata.image_dtype, metadata.preprocess.window) == ("NHW", "uint16", (0, 4095))
