"""One decision in every entrance: what Python, the command line and HTTP make of odd pictures, classes and windows."""

import io
import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

import explainable_model as xm
from explainable_model.errors import InputError
from explainable_model.imaging.window import parse_window
from explainable_model.serving import Request, Service, Settings
from tests.support.cli_run import Run


def noise(width: int = 60, height: int = 44) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)


def encode(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def deep() -> bytes:
    return encode(Image.fromarray(np.asarray(noise().convert("L")).astype(np.uint16) * 257))


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(noise(), "JPEG", exif=exif, quality=95)


def palette() -> bytes:
    return encode(noise().quantize(16), transparency=3)


def bomb() -> bytes:
    """The header of a picture of 400 million pixels."""
    small = bytearray(encode(Image.new("L", (1, 1))))
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + small[24:29]
    small[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    return bytes(small)


PICTURES: dict[str, Callable[[], bytes]] = {
    "plain": lambda: encode(noise()),
    "jpeg": lambda: encode(noise(), "JPEG", quality=95),
    "CMYK": lambda: encode(noise().convert("CMYK"), "JPEG", quality=95),
    "gray": lambda: encode(noise().convert("L")),
    "one bit": lambda: encode(noise().convert("1")),
    "gray with alpha": lambda: encode(noise().convert("LA")),
    "RGBA": lambda: encode(noise().convert("RGBA")),
    "palette with a transparent color": palette,
    "16 bits": deep,
    "turned by EXIF": turned,
    "webp": lambda: encode(noise(), "WEBP", lossless=True),
    "bmp": lambda: encode(noise(), "BMP"),
    "one pixel": lambda: encode(noise().crop((0, 0, 1, 1))),
    "a line": lambda: encode(noise(700, 1)),
    "bytes behind the end": lambda: encode(noise()) + b"more",
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"no picture",
    "html": lambda: b"<!doctype html><title>404</title>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "half a PNG": lambda: encode(noise())[:900],
    "half a JPEG": lambda: encode(noise(), "JPEG", quality=95)[:900],
    "a header alone": lambda: encode(noise())[:33],
    "too many pixels": bomb,
}
CLASSES = (None, "0", "4", " 3 ", "+2", "tabby", "TABBY CAT", " tiger cat ", "Espresso", "-1")
WRONG_CLASSES = (
    "", " ", "5", "-2", "dog", "1.0", "1e0", "0x1", "\u0661", "crane", "nan", "None", "9" * 30, "x" * 2000, "tabby\0",
)  # fmt: skip
WINDOWS = ("0,65535", "1000, 30000", "-5,70000.5")
WRONG_WINDOWS = ("", "1", "5,1", "3,3", "a,b", "nan,1", "0,inf", "1,2,3")


class Entrances:
    """One artifact behind three doors: each gives the class and its probability, or the words of a refusal."""

    def __init__(self, artifact: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.artifact, self.folder, self.capsys = artifact, folder, capsys
        self.session = xm.load(artifact)
        self.service = Service(self.session, self.session.metadata, Settings())

    def ask(self, picture: bytes, class_idx: str | None = None, window: str | None = None) -> dict[str, Any]:
        """By entrance: ``(class, probability)`` or the message."""
        return {name: getattr(self, name)(picture, class_idx, window) for name in ("python", "shell", "http")}

    def python(self, picture: bytes, class_idx: str | None, window: str | None) -> Any:
        path = self.folder / "photo.png"
        path.write_bytes(picture)
        try:
            numbers = None if window is None else parse_window(window)
            answer = xm.explain(path, self.session, class_idx, window=numbers)
        except (InputError, ValueError) as error:
            return str(error)
        return answer.class_idx, pytest.approx(answer.probability, abs=1e-5)

    def shell(self, picture: bytes, class_idx: str | None, window: str | None) -> Any:
        path = self.folder / "photo.png"
        path.write_bytes(picture)
        options = [f"--class={class_idx}"] if class_idx is not None else []
        options += [f"--window={window}"] if window is not None else []
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        arguments = [path, "--artifact", self.artifact, "--out", self.folder / "out", "--json", *options]
        run = Run(self.capsys, "explain", *arguments)
        if run.code:
            assert run.err.startswith("explainable-model: error: ")
            assert not list(self.folder.glob("out/*"))
            return run.err.removeprefix("explainable-model: error: ").strip()
        (found,) = run.record["photos"]
        return found["class_idx"], found["probability"]

    def http(self, picture: bytes, class_idx: str | None, window: str | None) -> Any:
        fields = {"image": picture, "class": class_idx, "window": window}
        request = Request({name: value for name, value in fields.items() if value is not None})
        ((response,), _) = self.service.answer([request])
        record = json.loads(response.body)
        if response.status >= 400:
            assert response.status < 500
            return record["message"]
        return record["class_idx"], record["probability"]


@pytest.fixture
def entrances(artifacts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Entrances:
    return Entrances(artifacts["onnx"], tmp_path, capsys)


@pytest.mark.filterwarnings("ignore::explainable_model.errors.LowRangeWarning")
def test_odd_pictures_have_one_answer(entrances: Entrances) -> None:
    for name, make in PICTURES.items():
        found = entrances.ask(make())
        assert found["python"] == found["shell"] == found["http"], name
        assert isinstance(found["http"], tuple), name
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(turned())))
    assert entrances.python(turned(), None, None) == entrances.http(encode(upright), None, None)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures_are_refused_everywhere(entrances: Entrances, name: str) -> None:
    for entrance, said in entrances.ask(BROKEN[name]()).items():
        assert isinstance(said, str), entrance
        assert any(word in said for word in ("picture", "pixels", "damaged")), f"{entrance}: {said}"


def test_classes_have_one_meaning(entrances: Entrances) -> None:
    picture = PICTURES["plain"]()
    for text in CLASSES:
        found = entrances.ask(picture, text)
        assert isinstance(found["python"], tuple), (text, found)
        assert found["python"] == found["shell"] == found["http"], text
    for text in WRONG_CLASSES:
        found = entrances.ask(picture, text)
        assert {type(said) for said in found.values()} == {str}, (text, found)
        assert found["python"].split("\0")[0][:20] == found["shell"].split("\0")[0][:20], (text, found)


def test_windows_have_one_meaning(entrances: Entrances) -> None:
    picture = PICTURES["16 bits"]()
    for text in WINDOWS:
        found = entrances.ask(picture, window=text)
        assert isinstance(found["python"], tuple), (text, found)
        assert found["python"] == found["shell"] == found["http"], text
    for text in WRONG_WINDOWS:
        found = entrances.ask(picture, window=text)
        assert {type(said) for said in found.values()} == {str}, (text, found)


def test_what_is_no_file(entrances: Entrances, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in (
        ("missing.png", "There is no file"),
        ("empty", "holds no photo"),
        ("*.xyz", "No file matches"),
    ):
        with pytest.raises(InputError, match=message):
            list(xm.explain(tmp_path / path, entrances.session))
        run = Run(
            entrances.capsys, "explain", tmp_path / path, "--artifact", entrances.artifact, "--out", tmp_path / "o"
        )
        assert (run.code > 0, message in run.err) == (True, True), run.err
