"""What the scripts of this folder share: a photo in, the answer out, and the artifact's check of itself.

Needs Python 3.8, NumPy and Pillow. Each script has one function,
``open_model(path, threads)``, and calls ``main`` with it.
"""

import argparse
import json
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

KEY = "explainable_model.json"  # where an artifact keeps its record


class Model(NamedTuple):
    """An artifact, or a plain network, in one runtime.

    ``run`` takes a list of arrays and returns a list of arrays, in the file's own order; ``record`` is the text of the
    artifact's metadata, ``None`` for a plain network; ``operators`` is their number, where the runtime tells.
    """

    run: object
    record: object
    operators: object
    runtime: str
    version: str


def read_record(model, path):
    if model.record is None:
        raise ValueError(f"{path} was not exported by explainable_model.")
    record = json.loads(model.record)
    if record["schema_version"] != 1:
        raise ValueError(f"{path} has metadata of schema {record['schema_version']}; this program reads 1.")
    if not record.get("preprocess") and not record.get("pixels"):
        raise ValueError(
            f"{path} was exported without preprocess=Preprocess(...): nobody knows what it does to a photo."
        )
    if record["extra_inputs"]:
        raise ValueError(f"{path} takes more than an image.")
    return record


# From a photo to the image


def seen_box(width, height, preprocess):
    """What the network sees: the whole photo, or the centre that is left of it by a resize and a crop."""
    size, resize, box = np.array([width, height]), preprocess["resize"], (0, 0, width, height)
    crop = np.array(preprocess["size"][::-1])
    if resize is not None and crop.max() <= resize:  # in whole pixels of the resized photo
        resized = resize * size // size.min()
        start = np.round((resized - crop) / 2)
        box = (*(start * size / resized), *((start + crop) * size / resized))
    elif resize is not None:  # a crop that would leave it is shrunk until it fits
        crop = crop * (size.min() / resize)
        crop = np.minimum(crop * min(1, *(size / crop)), size)
        box = (*((size - crop) / 2), *((size + crop) / 2))
    return box


def to_image(photo, record):
    """``(image, box)``: what the artifact takes, one of it, and which part of the photo it sees."""
    if record.get("pixels"):  # it prepares photos itself
        levels = np.asarray(photo)[None]
        image = levels if record["pixels"] == "NHWC" else np.ascontiguousarray(levels.transpose(0, 3, 1, 2))
        return image, (0, 0, *photo.size)
    preprocess = record["preprocess"]
    mean, std = (np.asarray(preprocess[key], np.float32) for key in ("mean", "std"))
    box = seen_box(*photo.size, preprocess)
    resample = getattr(Image, "Resampling", Image)[preprocess["interpolation"].upper()]
    small = photo.convert("L" if len(mean) == 1 else "RGB").resize(tuple(preprocess["size"][::-1]), resample, box)
    pixels = np.asarray(small, np.float32).reshape(*preprocess["size"], -1) / np.float32(255)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None].astype(record["dtype"])), box


def to_inputs(image, class_idx, record, batch=None):
    """The image, as often as the artifact wants it, and the class to explain in each; -1 stands for the predicted."""
    copies = record["image_shape"][0] or batch or 1
    classes = np.full([copies, *record["inputs"]["class_idx"]["shape"][1:]], class_idx, np.int64)
    return [np.repeat(image, copies, axis=0), classes]


# The answer to a fixed image, which every artifact carries


def sines(shape, dtype):
    """``sin(i + n)`` for element i of image n; as levels from 0 to 255 where it takes photos."""
    index = np.arange(int(np.prod(shape[1:])), dtype=np.float64).reshape(shape[1:])
    waves = np.stack([np.sin(index + n) for n in range(shape[0])])
    return np.round(127.5 + 127.5 * waves).astype(np.uint8) if dtype == "uint8" else waves.astype(dtype)


def cells(cam):
    """A map as means over an 8 x 8 grid."""
    for axis in range(cam.ndim):
        length = cam.shape[axis]
        edges = np.unique(np.linspace(0, length, min(length, 8) + 1).round().astype(int))
        lengths = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(cam.ndim)])
        cam = np.add.reduceat(cam, edges[:-1], axis=axis) / lengths
    return cam.ravel()


def parity(model, record):
    """How far this device's answer to the fixed image is from the recorded one."""
    reference = record["reference"]
    sizes = list(reference["size"] or [])
    shape = [int(sizes.pop(0) if n is None else n) for n in record["image_shape"][1:]]
    wanted, maps = np.array(reference["logits"]), np.array(reference["cam"])
    image = sines([len(wanted), *shape], record["inputs"]["image"]["dtype"])
    logits, _, cam = model.run([image, np.array(reference["class_idx"], np.int64)])[:3]
    _, predicted, _ = model.run([image, np.full_like(reference["class_idx"], -1, np.int64)])[:3]
    flat = logits.reshape(len(logits), -1)
    positions = np.unique(np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], 16)).round().astype(int))
    found = np.stack([cells(each.astype(np.float64)) for each in cam])
    figures = {
        "logits": float(np.abs(flat[:, positions] - wanted).max() / max(1.0, np.abs(wanted).max())),
        "cam": float(np.abs(found - maps).max() / max(1.0, np.abs(maps).max())),
        "correlation": float(min(np.corrcoef(a, b)[0, 1] if b.std() else a.std() == 0 for a, b in zip(found, maps))),
        "top1_agreement": float(np.mean(predicted == np.array(reference["class_idx"]))),
    }
    within = figures["logits"] <= reference["logits_tolerance"] and figures["cam"] <= reference["cam_tolerance"]
    return {**figures, "within_tolerance": bool(within)}


# The program


def explain(model, record, photo, class_idx):
    """What is in a photo, and where; and the heatmap."""
    if not -1 <= class_idx < record["classes"]:
        raise ValueError(f"class {class_idx} is out of range; expected 0 to {record['classes'] - 1}.")
    image, box = to_image(photo, record)
    logits, explained, cam = model.run(to_inputs(image, class_idx, record))[:3]
    cam, logits, best = cam.reshape(-1, *cam.shape[-2:])[0], logits[0], int(explained.flat[0])
    row, column = np.unravel_index(int(cam.argmax()), cam.shape)
    left, top, right, bottom = box
    hottest = (
        left + (column + 0.5) * (right - left) / cam.shape[1],
        top + (row + 0.5) * (bottom - top) / cam.shape[0],
    )
    found = {"class_idx": best, "class_name": record["class_names"][best] if record["class_names"] else None}
    if logits.ndim == 1 and len(logits) > 1:
        odds = np.exp((logits - logits.max()).astype(np.float64))
        found["probability"] = float(odds[best] / odds.sum())
    return {**found, "hottest": [round(float(n), 1) for n in hottest]}, cam


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("artifact")
    parser.add_argument("photo")
    parser.add_argument("--class", dest="class_idx", type=int, default=-1, help="default: the predicted one")
    parser.add_argument("--npy", help="write the heatmap")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bench", metavar="JSON", help="measure, and write the figures there")
    parser.add_argument("--plain", help="the network without explanation, measured in turn with it")
    parser.add_argument("--seconds", type=float, default=20, help="how long to measure")
    parser.add_argument(
        "--minutes", type=int, default=0, help="also measure that long, minute by minute: 5 for thermals"
    )
    parser.add_argument("--watts", type=float, help="what your meter shows while it measures")
    parser.add_argument("--commit", help="of the artifact's sources, for the record")
    parser.add_argument("--emulated", action="store_true", help="this is no real device: compare, and time nothing")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args()


def program(open_model, description):
    options = arguments(description)
    if options.alone:
        from bench import alone

        return alone(open_model, options)
    photo = ImageOps.exif_transpose(Image.open(options.photo)).convert("RGB")
    model = open_model(options.artifact, options.threads)
    record = read_record(model, options.artifact)
    compared = parity(model, record)
    if not compared["within_tolerance"]:
        raise ValueError(f"on this device the artifact does not give its recorded answer: {compared}")
    found, cam = explain(model, record, photo, options.class_idx)
    if options.npy:
        np.save(options.npy, cam)
    if options.bench:
        from bench import bench

        figures = bench(open_model, model, record, compared, photo, options)
        with open(options.bench, "w") as file:
            file.write(json.dumps(figures, indent=1) + "\n")
    return {**found, "parity": compared}


def main(open_model, description):
    try:
        print(json.dumps(program(open_model, description)))
    except Exception as error:  # whatever Pillow or the runtime raise for a file they cannot read
        sys.exit(f"error: {error}")
