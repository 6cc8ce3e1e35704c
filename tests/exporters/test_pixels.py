"""Artifacts that take photos as they are: against preparing, explaining and drawing outside of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, load, read_metadata
from explainable_model.errors import InputError
from explainable_model.explanation import DrawnExplanation
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import OverlayStyle, overlay
from explainable_model.lowering.example_photos import fresh_photos
from explainable_model.lowering.imaging import PhotoIO

SIZE = (24, 32)
CROP = Preprocess(SIZE, resize=36)
SQUASH = Preprocess(SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PHOTOS = [(60, 45), (45, 60), (33, 200), (36, 36), (20, 17), (3, 2), (1, 1)]  # height, width


def photo_of(height: int, width: int, low: int = 0, high: int = 255) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(low, high + 1, (height, width, 3), dtype=np.uint8))


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    return ExplainableModel(network(), "2")


IMAGE = torch.zeros(2, 3, *SIZE)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("resize", [None, 32, 36, 50])
@pytest.mark.parametrize("shape", PHOTOS)
def test_image_is_the_host_s(shape: tuple[int, int], resize: int | None, interpolation: str) -> None:
    preprocess = Preprocess(SIZE, mean=(0.0,) * 3, std=(1.0,) * 3, resize=resize, interpolation=interpolation)
    photo = photo_of(*shape, 70, 185)  # where a bicubic filter would leave [0, 255], Pillow cuts it between its passes
    got = PhotoIO(preprocess).image(torch.from_numpy(AsDecoded("NCHW")(photo)))
    levels = np.abs(got.numpy() - preprocess(photo)) * 255
    if interpolation == "nearest":  # where a sample falls on the edge between two pixels either is right
        assert (levels > 1e-3).mean() < 0.2
    else:  # and where a value is half-way between two levels, or Pillow does its two passes the other way round
        assert levels.max() < 2.01
        assert (levels > 0.5).mean() < 0.35


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_image_is_the_host_s_to_the_level(interpolation: str) -> None:
    preprocess = Preprocess((64, 64), mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=interpolation)
    photo = photo_of(150, 227, 70, 185)
    got = PhotoIO(preprocess).image(torch.from_numpy(AsDecoded("NCHW")(photo)))
    assert (np.abs(got.numpy() - preprocess(photo)) > 1e-6).mean() < 0.01


def test_grey_image_is_the_host_s() -> None:
    preprocess = Preprocess(SIZE, mean=(0.5,), std=(0.25,), resize=36)
    photo = photo_of(50, 41)
    got = PhotoIO(preprocess).image(torch.from_numpy(AsDecoded("NCHW")(photo)))
    assert got.shape == (1, 1, *SIZE)
    levels = np.abs(got.numpy() - preprocess(photo)) * 255 * 0.25
    assert levels.max() < 1.01
    assert (levels > 0.5).mean() < 0.35


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_image_has_the_network_s_dtype(dtype: torch.dtype) -> None:
    photo = torch.from_numpy(AsDecoded("NHWC")(photo_of(50, 41)))
    got = PhotoIO(CROP, "NHWC", dtype=dtype).image(photo)
    assert got.dtype is dtype
    assert torch.allclose(got.float(), PhotoIO(CROP, "NHWC").image(photo), atol=2e-3)


@pytest.mark.parametrize("shape", PHOTOS)
@pytest.mark.parametrize("preprocess", [CROP, SQUASH])
def test_map_lies_where_the_network_looked(preprocess: Preprocess, shape: tuple[int, int]) -> None:
    """A map that is its own coordinate: each pixel of the photo gets back where in the crop it lies."""
    height, width = shape
    left, top, right, bottom = preprocess.box(width, height)
    rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 for n in SIZE)
    photo = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    frame = PhotoIO(preprocess)
    got = [frame.maps(cam[None], photo)[0] for cam in (rows[:, None].expand(SIZE), columns[None].expand(SIZE))]
    down, across = (np.arange(n) + 0.5 for n in shape)
    inside = ((down >= top) & (down < bottom))[:, None] & ((across >= left) & (across < right))[None]
    wanted = (
        ((down - top) / (bottom - top) * SIZE[0]).clip(0.5, SIZE[0] - 0.5)[:, None],
        ((across - left) / (right - left) * SIZE[1]).clip(0.5, SIZE[1] - 0.5)[None],
    )
    for values, want in zip(got, wanted, strict=True):
        assert values.shape == (height, width)
        assert np.abs(values.numpy() - np.where(inside, want, 0)).max() < 1e-9


@pytest.mark.parametrize(
    "look",
    [OverlayStyle("jet", 0.4), OverlayStyle(), OverlayStyle(threshold=0.3), OverlayStyle(threshold=0.3, hide="photo")],
)
@pytest.mark.parametrize("pixels", ["NCHW", "NHWC"])
def test_overlay_is_the_host_s(pixels: str, look: OverlayStyle) -> None:
    photo = photo_of(90, 130)
    cam = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(0))
    cam = nn.functional.interpolate(cam[None], size=SIZE, mode="bilinear")[0]
    frame = PhotoIO(CROP, pixels, look.suited(signed=False))
    decoded = torch.from_numpy(AsDecoded(pixels)(photo))
    drawn = frame.overlay(frame.maps(cam, decoded), decoded)[0]
    assert drawn.dtype is torch.uint8
    picture = drawn.numpy() if pixels == "NHWC" else drawn.permute(1, 2, 0).numpy()
    wanted = overlay(photo, cam[0].numpy(), box=CROP.box(*photo.size), **look.keywords(signed=False))
    off = np.abs(picture.astype(float) - np.asarray(wanted))
    # The host enlarges maps by a bicubic filter: other values where a threshold lies and a colormap is steep.
    assert np.median(off) <= 2
    assert off.mean() < 6


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_overlay_is_blended_to_the_level(alpha: float) -> None:
    photo, look = photo_of(90, 130), OverlayStyle(alpha=alpha)
    cam = torch.rand(1, 90, 130, generator=torch.Generator().manual_seed(0))
    drawn = PhotoIO(SQUASH, "NHWC", look.suited(signed=False)).overlay(cam, torch.from_numpy(AsDecoded("NHWC")(photo)))[
        0
    ]
    off = np.abs(drawn.numpy().astype(int) - np.asarray(overlay(photo, cam[0].numpy(), alpha=alpha)))
    assert off.max() <= 1
    assert off.mean() < 0.002


def test_signed_overlay_is_white_at_zero() -> None:
    frame = PhotoIO(SQUASH, look=OverlayStyle(alpha=1.0).suited(signed=True), signed=True)
    photo = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    cam = torch.zeros(1, 8, 8)
    cam[0, 0, 0], cam[0, 0, 1] = 1, -1
    drawn = frame.overlay(cam, photo)[0]
    assert (drawn[:, 4, 4] > 240).all()
    assert drawn[0, 0, 0] > drawn[2, 0, 0] + 50  # red speaks for the class
    assert drawn[2, 0, 1] > drawn[0, 0, 1] + 50  # blue against it


@pytest.mark.parametrize(
    ("suffix", "pixels"), [(".ts", "NCHW"), (".onnx", "NHWC"), (".onnx", "NCHW"), (".pt2", "NHWC")]
)
def test_artifact_is_the_host_s_steps(explainable: ExplainableModel, tmp_path: Path, suffix: str, pixels: str) -> None:
    path = export(explainable, tmp_path / f"photos{suffix}", IMAGE, preprocess=CROP, pixels=pixels, render="overlay")
    session = load(path)
    frame = PhotoIO(CROP, pixels, session.metadata.look)
    for batch, shape in ((1, (70, 50)), (3, (41, 99)), (2, (1, 1)), (3, (36, 36)), (1, (1, 80)), (2, (2, 200))):
        photos = fresh_photos(frame, batch, shape, seed=7)
        classes = np.arange(batch) % 5
        answer = session(photos.numpy(), classes)
        assert isinstance(answer, DrawnExplanation)
        logits, class_idx, cam = explainable(frame.image(photos), torch.from_numpy(classes))
        assert np.abs(answer.logits - logits.detach().numpy()).max() < 1e-4
        assert np.array_equal(answer.class_idx, class_idx.numpy())
        maps = frame.maps(cam, photos)
        assert np.abs(answer.cam - maps.numpy()).max() < 2e-3
        assert answer.overlay.dtype == np.uint8
        assert answer.overlay.shape == tuple(photos.shape)
        assert np.abs(answer.overlay.astype(float) - frame.overlay(maps, photos).numpy()).mean() < 0.5


def test_several_classes_and_signed_maps(tmp_path: Path) -> None:
    explainable = ExplainableModel(network(), "2", top_k=2, signed=True, normalize="max")
    path = export(explainable, tmp_path / "photos.onnx", IMAGE, preprocess=SQUASH, pixels="NCHW", render="overlay")
    session = load(path)
    assert session.metadata.look == OverlayStyle("RdBu_r", 0.5)
    photos = fresh_photos(PhotoIO(SQUASH), 3, (50, 40), seed=3)
    answer = session(photos.numpy())
    assert answer.cam.shape == (3, 2, 50, 40)
    assert answer.overlay.shape == (3, 2, 3, 50, 40)
    wanted = explainable(PhotoIO(SQUASH).image(photos)).cam
    assert np.abs(answer.cam - PhotoIO(SQUASH).maps(wanted, photos).numpy()).max() < 2e-3
    assert answer.cam.min() < 0


def test_several_classes_over_part_of_the_photo(tmp_path: Path) -> None:
    explainable = ExplainableModel(network(), "2", top_k=2)
    for pixels in ("NCHW", "NHWC"):
        path = export(explainable, tmp_path / "photos.onnx", IMAGE, preprocess=CROP, pixels=pixels, render="overlay")
        session = load(path)
        frame = PhotoIO(CROP, pixels, session.metadata.look)
        photos = fresh_photos(frame, 3, (50, 40), seed=3)
        maps = frame.maps(explainable(frame.image(photos)).cam, photos)
        drawn = session(photos.numpy()).overlay.astype(float)
        assert drawn.shape == (3, 2, *photos.shape[1:])
        assert np.abs(drawn - frame.overlay(maps, photos).numpy()).mean() < 0.5


def test_record_says_what_it_takes_and_returns(explainable: ExplainableModel, tmp_path: Path) -> None:
    path = export(
        explainable, tmp_path / "photos.onnx", IMAGE, preprocess=CROP, pixels="NHWC", render=OverlayStyle(alpha=0.3)
    )
    metadata = read_metadata(path)
    assert metadata.preprocess == CROP
    assert (metadata.pixels, metadata.look) == ("NHWC", OverlayStyle("turbo", 0.3))
    record = metadata.to_dict()
    assert record["inputs"]["image"] == {"shape": [None, None, None, 3], "dtype": "uint8", "range": [0, 255]}
    assert record["outputs"]["cam"] == {"shape": [None, None, None], "dtype": "float32", "range": [0, 1]}
    assert record["outputs"]["overlay"] == {"shape": [None, None, None, 3], "dtype": "uint8", "range": [0, 255]}
    assert isinstance(metadata.preparation, AsDecoded)


def test_network_of_one_batch_size(tmp_path: Path) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.body(image.reshape(2, 3, *SIZE))  # type: ignore[no-any-return]

    with pytest.warns(UserWarning, match="batch of exactly 2"):
        path = export(
            ExplainableModel(Single().eval(), "body.2"), tmp_path / "photos.onnx", IMAGE, preprocess=CROP, pixels="NCHW"
        )
    session = load(path)
    assert session(np.zeros((2, 3, 9, 11), np.uint8)).cam.shape == (2, 9, 11)
    with pytest.raises(InputError, match=r"expects \(2, 3, H, W\)"):
        session(np.zeros((1, 3, 9, 11), np.uint8))


def test_other_images_are_refused(explainable: ExplainableModel, tmp_path: Path) -> None:
    session = load(export(explainable, tmp_path / "photos.onnx", IMAGE, preprocess=CROP, pixels="NHWC"))
    with pytest.raises(InputError, match=r"float32; photos.onnx expects uint8: photos as decoded"):
        session(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(InputError, match=r"expects \(N, H, W, 3\)"):
        session(np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(InputError, match=r"expects \(N, H, W, 3\)"):
        session(np.zeros((1, 0, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pixels": "NCHW"}, "preprocess=Preprocess"),
        ({"pixels": "CHW", "preprocess": CROP}, "NCHW or NHWC"),
        ({"render": "overlay", "preprocess": CROP}, "pixels='NCHW'"),
        ({"render": "heat", "pixels": "NCHW", "preprocess": CROP}, "expected 'overlay'"),
        ({"render": OverlayStyle("nojet"), "pixels": "NCHW", "preprocess": CROP}, "Unknown colormap"),
        ({"pixels": "NCHW", "preprocess": Preprocess((24, 24))}, r"preprocess makes \(3, 24, 24\)"),
        ({"pixels": "NCHW", "preprocess": Preprocess(SIZE, interpolation="lanczos")}, "lanczos"),
        ({"pixels": "NCHW", "preprocess": Preprocess(SIZE, resize=30)}, "larger than the resized photo"),
        ({"pixels": "NCHW", "preprocess": CROP, "dynamic_size": True}, "dynamic_size"),
    ],
)
def test_what_cannot_be_is_said(
    explainable: ExplainableModel, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        export(explainable, tmp_path / "photos.onnx", IMAGE, **arguments)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"upsample": "none"}, {"size": (8, 8)}])
def test_maps_of_another_size_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    explainable = ExplainableModel(network(), "2", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="leave both out"):
        export(explainable, tmp_path / "photos.onnx", IMAGE, preprocess=CROP, pixels="NCHW")
