"""Write files for the page to open, and the network's own answers for them in Python.

python export/web/test/expected.py FOLDER [detector.onnx]

The second file, an artifact of a detector as `explainable-model demo --task detection` writes it, is tested too.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import PIL
import torch
from boxes import expect_boxes, write_detector
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, from_onnx, load
from explainable_model.demo import PREPROCESS, TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.demo.boxes import PHOTOS
from explainable_model.demo.files import find_in_package
from explainable_model.explainer.answers import probabilities
from explainable_model.explanation import OUTPUT_KINDS
from explainable_model.imaging.preprocess import open_photo

METADATA_KEY = "explainable_model.json"
PIXELS = ("NCHW", "NHWC")
SITE_MODEL = Path(__file__).parents[1] / "site" / "assets" / "model.onnx"
ORIENTATION = 0x112  # the EXIF tag; 6 asks the reader to turn the picture clockwise
CROPPING = Preprocess(size=(48, 40), mean=(0.45,), std=(0.25,), resize=56, interpolation="bicubic")
AS_DECODED = ("chelsea.png", "tall.png")  # lossless, so that every browser decodes the same levels
ALSO_EXPLAINED = 3  # further classes of the top five


def write_photos(folder: Path) -> list[str]:
    """Write pictures of every kind."""
    chelsea, coffee, camera = (Image.open(path) for path in demo_photos())
    cat = chelsea.convert("RGB")
    alpha = Image.linear_gradient("L").resize(cat.size)
    sixteen_bit = Image.fromarray(np.asarray(camera).astype(np.uint16) * 257)
    turned = Image.Exif()
    turned[ORIENTATION] = 6
    photos = {
        "chelsea.png": (cat, {}),
        "coffee.png": (coffee.convert("RGB"), {}),
        "gray.png": (camera, {}),
        "gray16.png": (sixteen_bit, {}),
        "transparent.png": (Image.merge("RGBA", (*cat.split(), alpha)), {}),
        "palette.png": (coffee.convert("RGB").quantize(64), {}),
        "lossless.webp": (cat, {"lossless": True}),
        "photo.jpg": (coffee.convert("RGB"), {"quality": 92}),
        "cmyk.jpg": (coffee.convert("CMYK"), {"quality": 95}),
        "turned.jpg": (cat.transpose(Image.Transpose.ROTATE_90), {"quality": 95, "exif": turned}),
        "tall.png": (cat.crop((100, 0, 190, 300)), {}),
        "dot.png": (cat.crop((200, 100, 201, 101)), {}),
    }
    for name, (picture, options) in photos.items():
        picture.save(folder / name, **options)
    return list(photos)


def write_broken(folder: Path) -> None:
    """Write files that are no pictures, and one that is too large."""
    (folder / "text.jpg").write_text("This is not a picture.\n" * 50)
    (folder / "empty.png").write_bytes(b"")
    for whole, cut in (("photo.jpg", "truncated.jpg"), ("chelsea.png", "truncated.png")):
        content = (folder / whole).read_bytes()
        (folder / cut).write_bytes(content[: len(content) // 2])
    Image.new("1", (12_000, 12_000)).save(folder / "huge.png")


def write_artifacts(folder: Path) -> ExplainableModel:
    """Write artifacts of another network, and files that the page must refuse; return that network."""
    torch.manual_seed(5)  # a seed whose maps are not empty
    network = nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()  # fmt: skip
    second, image = ExplainableModel(network, "3"), torch.randn(1, 1, *CROPPING.size)
    torch.onnx.export(network, (image,), str(folder / "plain.onnx"), input_names=["pixel_values"], dynamo=False)
    from_file = ExplainableModel(from_onnx(folder / "plain.onnx"), "/3/Relu")  # its artifact keeps the input's name
    export(from_file, folder / "second.onnx", image, preprocess=CROPPING)
    for pixels in PIXELS:
        export(second, folder / f"{pixels}.onnx", image, preprocess=CROPPING, pixels=pixels, render="overlay")
    model = onnx.load(folder / "second.onnx")
    (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
    record = json.loads(entry.value)
    entry.value = json.dumps({**record, "schema_version": 99})
    onnx.save(model, folder / "newer.onnx")
    entry.value = json.dumps({**record, "preprocess": {**record["preprocess"], "window": [0, 4095]}})
    onnx.save(model, folder / "window.onnx")
    entry.value = json.dumps({**record, "pixels": "NHW", "image_shape": [None, None, None]})
    onnx.save(model, folder / "gray.onnx")
    record["reference"]["cam"] = [[1 - value for value in cells] for cells in record["reference"]["cam"]]
    entry.value = json.dumps(record)
    onnx.save(model, folder / "wrong.onnx")
    del model.metadata_props[:]
    onnx.save(model, folder / "foreign.onnx")
    (folder / "cut.onnx").write_bytes(SITE_MODEL.read_bytes()[:100_000])
    (folder / "text.onnx").write_text("This is not an artifact.\n")
    return second


def explain(explainable: ExplainableModel, preprocess: Preprocess, folder: Path, photo: str, prefix: str) -> object:
    """Write the network's arrays to files of little-endian float32, and return the rest of its answers."""
    image = torch.from_numpy(preprocess(open_photo(folder / photo)))
    logits, class_idx, _ = explainable(image)
    top = logits[0].argsort(descending=True, stable=True)[:5].tolist()
    maps = {}
    for chosen in top[: 1 + ALSO_EXPLAINED]:
        maps[chosen] = f"{prefix}-{photo}-{chosen}.f32"
        explainable(image, torch.tensor([chosen])).cam[0].numpy().tofile(folder / maps[chosen])
    arrays = {"logits": logits, "input": image}
    files = {name: f"{prefix}-{photo}-{name}.f32" for name in arrays}
    for name, array in arrays.items():
        array.numpy().tofile(folder / files[name])
    shares = logits.softmax(1)[0, top].tolist()
    return {"class_idx": int(class_idx), "top": top, "probabilities": shares, "maps": maps, **files}


def explain_as_decoded(pixels: str, folder: Path, photo: str) -> object:
    """Write and return the answer, in Python, of the artifact that takes photos."""
    session = load(folder / f"{pixels}.onnx", threads=1)
    logits, class_idx, cam, _ = session(session.metadata.preparation(open_photo(folder / photo)))
    arrays = {"logits": logits, "map": cam[0]}
    files = {name: f"{pixels}-{photo}-{name}.f32" for name in arrays}
    for name, array in arrays.items():
        array.tofile(folder / files[name])
    chosen, top = int(class_idx[0]), np.argsort(-logits[0], kind="stable")[:5].tolist()
    maps = {chosen: files["map"]}
    return {"class_idx": chosen, "top": top, "logits": files["logits"], "maps": maps, "size": cam.shape[1:]}


def write_resamplings(folder: Path) -> list[dict[str, object]]:
    """Write random pictures and their parts, and what Pillow resizes them to: up, down, and by odd ratios."""
    random = np.random.default_rng(0)
    cases = []
    shapes = [(3, 5), (17, 23), (64, 64), (301, 97), (600, 450)]
    sizes = [(1, 1), (7, 11), (224, 224), (64, 64)]
    for number, (shape, size) in enumerate((shape, size) for shape in shapes for size in sizes):
        for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
            channels = 3 if number % 2 else 1
            pixels = random.integers(0, 256, (*shape, channels), dtype=np.uint8)
            left, top = (float(random.uniform(0, 0.4 * length)) for length in (shape[1], shape[0]))
            part = [left, top, shape[1] - float(random.uniform(0, 0.4)), shape[0] - float(random.uniform(0, 0.4))]
            box = part if number % 3 else [0, 0, shape[1], shape[0]]
            picture = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
            resized = picture.resize(size[::-1], Image.Resampling[interpolation.upper()], box=tuple(box))
            stem = f"resample-{number}-{interpolation}"
            pixels.tofile(folder / f"{stem}.in")
            np.asarray(resized).tofile(folder / f"{stem}.out")
            case = {"stem": stem, "shape": shape, "size": size, "box": box}
            cases.append({**case, "interpolation": interpolation, "channels": channels})
    return cases


def list_probabilities() -> list[dict[str, object]]:
    """Outputs of every kind, with the probabilities that Python computes of them."""
    random = np.random.default_rng(0)
    cases: list[dict[str, object]] = []
    for kind in (*OUTPUT_KINDS, None):
        classes = 1 if kind is not None and kind.startswith("binary") else 4
        values = random.random((1, classes)).astype(np.float32)
        odds = probabilities(values, kind)
        cases.append({"kind": kind, "logits": values[0].tolist(), "odds": None if odds is None else odds.tolist()})
    return cases


def list_detectors(folder: Path, given: list[Path]) -> dict[str, dict[str, object]]:
    """The boxes of photos, by artifact: of a small detector, and of those that the command line names."""
    cells = write_detector(folder)
    found = {cells.name: {photo: expect_boxes(cells, folder, photo) for photo in ("squares.png", "nothing.png")}}
    for detector in given:
        for photo in PHOTOS:
            shutil.copy(find_in_package("skimage", "data", photo), folder / photo)
        shutil.copy(detector, folder / detector.name)
        found[detector.name] = {photo: expect_boxes(detector, folder, photo) for photo in PHOTOS}
    return found


def main() -> None:
    if int(PIL.__version__.split(".")[0]) < 13:
        raise SystemExit(f"Pillow is {PIL.__version__}; the page resizes tall pictures as Pillow 13 does.")
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    photos = write_photos(folder)
    write_broken(folder)
    lite0 = ExplainableModel(efficientnet_lite0().model, TARGET_LAYER)
    second = write_artifacts(folder)
    expected = {
        "photos": {photo: explain(lite0, PREPROCESS, folder, photo, "lite0") for photo in photos},
        "second": {photo: explain(second, CROPPING, folder, photo, "second") for photo in ("tall.png", "photo.jpg")},
        **{pixels: {photo: explain_as_decoded(pixels, folder, photo) for photo in AS_DECODED} for pixels in PIXELS},
        "resamplings": write_resamplings(folder),
        "probabilities": list_probabilities(),
        "boxes": list_detectors(folder, [Path(given) for given in sys.argv[2:]]),
    }
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    main()
