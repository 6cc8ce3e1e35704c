"""Prepare a photo, read an artifact's answer, and compare the artifact with its recorded answer.

Every script of this folder uses this file. It needs Python 3.8, NumPy and Pillow.
"""

import json
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

KEY = "explainable_model.json"  # the name of the metadata in an artifact
SCHEMA_VERSION = 1
MAX_VALUES = 2**28  # of one input: 1 GiB in float32
RESAMPLING = getattr(Image, "Resampling", Image)  # older versions of Pillow keep the filters in the module itself


class Model(NamedTuple):
    """An artifact, or a plain network, in one runtime.

    Attributes:
        run: a function from a list of arrays to a list of arrays, both in the order of the file.
        record: the artifact's metadata as JSON text; ``None`` for a plain network.
        operators: the number of operators; ``None`` where the runtime does not tell.
        runtime: the name of the runtime.
        version: the version of the runtime.
    """

    run: object
    record: object
    operators: object
    runtime: str
    version: str


class Answer(NamedTuple):
    """An artifact's answer for one photo.

    Attributes:
        class_idx: the explained class.
        logits: the logits of the photo.
        cam: the heatmap ``(h, w)``; of several classes, the best one's.
        box: left, top, right and bottom of the part of the photo that the heatmap covers.
    """

    class_idx: int
    logits: object
    cam: object
    box: tuple


def read_record(model, path):
    """The artifact's metadata, checked."""
    if model.record is None:
        raise ValueError(f"{path} was not exported by explainable_model.")
    record = json.loads(model.record)
    if record["schema_version"] != SCHEMA_VERSION:
        version = record["schema_version"]
        raise ValueError(f"{path} has metadata of schema {version}; this program reads schema {SCHEMA_VERSION}.")
    if not record.get("preprocess") and not record.get("pixels"):
        raise ValueError(
            f"{path} does not say how a photo becomes its input; export it with preprocess=Preprocess(...)."
        )
    if record.get("pixels") not in (None, "NCHW", "NHWC"):
        raise ValueError(f"{path} takes gray photos ({record['pixels']}); this program takes RGB, NCHW or NHWC.")
    if record["extra_inputs"]:
        raise ValueError(f"{path} takes {len(record['extra_inputs'])} input(s) beside the image; expected none.")
    return record


def open_photo(path, window=None):
    """A photo upright as RGB; of more than 8 bits, the values from ``window`` become black to white.

    Without a window, black is 0 and white 65535.
    """
    photo = Image.open(path)
    if not photo.mode.startswith(("I", "F")):
        return ImageOps.exif_transpose(photo).convert("RGB")
    values = np.asarray(photo, np.float64)
    low, high = window or (0, 65535)
    if window is None and (photo.mode.startswith("F") or values.min() < low or values.max() > high):
        raise ValueError(f"{path} has values from {values.min():g} to {values.max():g}; convert it to 8 bits.")
    if window is None and values.max() < high / 4:
        message = f"{path} has values up to {values.max():g} of 65535, so it is nearly black; convert it to 8 bits."
        warnings.warn(message, stacklevel=2)
    levels = Image.fromarray(np.uint8(np.round((np.clip(values, low, high) - low) * (255 / (high - low)))))
    levels.info.update(photo.info)
    return ImageOps.exif_transpose(levels).convert("RGB")


def find_box(width, height, preprocess):
    """The part of a photo that the network sees: the whole photo, or its center after a resize and a crop."""
    size, resize, box = np.array([width, height]), preprocess["resize"], (0, 0, width, height)
    crop = np.array(preprocess["size"][::-1])
    if resize is not None and crop.max() <= resize:  # the crop has whole pixels of the resized photo
        resized = resize * size // size.min()
        start = np.round((resized - crop) / 2)
        box = (*(start * size / resized), *((start + crop) * size / resized))
    elif resize is not None:  # a crop larger than the resized photo shrinks until it fits
        crop = crop * (size.min() / resize)
        crop = np.minimum(crop * min(1, *(size / crop)), size)
        box = (*((size - crop) / 2), *((size + crop) / 2))
    return box


def find_place(size, preprocess):
    """Where the photo lies in the image, which may have a border: left, top, columns, rows."""
    rows, columns = preprocess["size"]
    if preprocess.get("pad") is None:
        return 0, 0, columns, rows
    high = max(1, min(rows, divide(size[1] * columns, size[0])))
    wide = max(1, min(columns, divide(size[0] * rows, size[1])))
    return (columns - wide) // 2, (rows - high) // 2, wide, high


def divide(numerator, denominator):
    """The rounded quotient of whole numbers, a half to the even neighbor."""
    whole, rest = divmod(2 * numerator + denominator, 2 * denominator)
    return whole - whole % 2 if rest == 0 else whole


def prepare_image(photo, record):
    """``(image, box)``: the artifact's input for one photo, and the part of the photo that the network sees."""
    if record.get("pixels"):  # the artifact prepares photos itself
        levels = np.asarray(photo)[None]
        image = levels if record["pixels"] == "NHWC" else np.ascontiguousarray(levels.transpose(0, 3, 1, 2))
        return image, (0, 0, *photo.size)
    preprocess = record["preprocess"]
    if max(preprocess["size"]) > 65536 or np.prod(preprocess["size"], dtype=float) > MAX_VALUES:
        raise ValueError(f"the record asks for images of {preprocess['size']} pixels, which is too much.")
    mean, std = (np.asarray(preprocess[key], np.float32) for key in ("mean", "std"))
    box = find_box(*photo.size, preprocess)
    resample = RESAMPLING[preprocess["interpolation"].upper()]
    left, top, columns, rows = find_place(photo.size, preprocess)
    small = photo.convert("L" if len(mean) == 1 else "RGB").resize((columns, rows), resample, box)
    if preprocess.get("pad") is not None:
        gray = (round(255 * preprocess["pad"]),) * len(small.getbands())
        bordered = Image.new(small.mode, tuple(preprocess["size"][::-1]), gray)
        bordered.paste(small, (left, top))
        small = bordered
    pixels = np.asarray(small, np.float32).reshape(*preprocess["size"], -1) / np.float32(255)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None].astype(record["dtype"])), box


def make_inputs(image, class_idx, record, batch=None):
    """``[images, classes]``: the image repeated to the artifact's batch size, and the class to explain in each.

    Class -1 stands for the predicted class.
    """
    copies = record["image_shape"][0] or batch or 1
    if copies * image.size > MAX_VALUES:
        raise ValueError(f"the artifact takes {copies} images at once, which at this size need too much memory.")
    classes = np.full([copies, *record["inputs"]["class_idx"]["shape"][1:]], class_idx, np.int64)
    return [np.repeat(image, copies, axis=0), classes]


def check_outputs(outputs, record, batch):
    """Refuse an answer that is not what the record describes."""
    expected = list(record["outputs"].items())
    fits = len(outputs) == len(expected)
    for output, (name, want) in zip(outputs, expected):
        shape = [batch, *want["shape"][1:]]
        fits = fits and str(output.dtype) == want["dtype"] and len(output.shape) == len(shape) and 0 not in output.shape
        fits = fits and all(size in (None, found) for size, found in zip(shape, output.shape))
        if not fits:
            raise ValueError(
                f"the artifact's {name} is {output.dtype} of shape {output.shape}, not as its record says."
            )
    if not record.get("detection") and fits:
        fits = outputs[1].min() >= 0 and outputs[1].max() < record["classes"]
    if not fits:
        raise ValueError("the artifact's outputs are not what its record describes; export it again.")


def explain(model, record, photo, class_idx):
    """The artifact's ``Answer`` for one photo."""
    if not -1 <= class_idx < record["classes"]:
        raise ValueError(f"class {class_idx} is out of range; expected 0 to {record['classes'] - 1}.")
    image, box = prepare_image(photo, record)
    inputs = make_inputs(image, class_idx, record)
    outputs = model.run(inputs)
    check_outputs(outputs, record, len(inputs[0]))
    logits, explained, cam = outputs[:3]
    return Answer(int(explained.flat[0]), logits[0], cam.reshape(-1, *cam.shape[-2:])[0], box)


def compute_probabilities(logits, record):
    """The probability of each class; ``None`` where the output has none or its kind is not recorded."""
    kind, values = record.get("output_kind"), logits.ravel().astype(np.float64)
    if kind in (None, "scores") or (logits.ndim > 0 and len(values) != len(logits)):
        return None
    if kind == "logits":
        odds = np.exp(values - values.max())
        return odds / odds.sum()
    odds = 0.5 * (1 + np.tanh(values / 2)) if kind in ("sigmoid_logits", "binary_logits") else values
    return np.append(1 - odds, odds) if len(odds) == 1 and record["classes"] == 2 else odds


def describe_answer(answer, record):
    """Class, name, score, probability and the heatmap's hottest point, for JSON.

    The score is the network's own output for the class, summed over pixels. Without a probability, it stands alone.
    """
    class_idx, logits, cam, (left, top, right, bottom) = answer
    names = record["class_names"]
    described = {"class_idx": class_idx, "class_name": names[class_idx] if names else None}
    scores = logits.astype(np.float64).reshape(len(logits) if logits.ndim else 1, -1).sum(1)
    described["score"] = float(scores[0 if len(scores) == 1 else class_idx])
    odds = compute_probabilities(logits, record)
    if odds is not None:
        described["probability"] = float(odds[class_idx])
    row, column = np.unravel_index(int(cam.argmax()), cam.shape)
    x = left + (column + 0.5) * (right - left) / cam.shape[1]
    y = top + (row + 0.5) * (bottom - top) / cam.shape[0]
    return {**described, "hottest": [round(float(x), 1), round(float(y), 1)]}


def draw_overlay(photo, answer, diverging=False):
    """The photo under its heatmap; in a diverging heatmap green stands for zero, and blue speaks against the class."""
    cam = answer.cam.astype(np.float32)
    cam = (cam / max(abs(cam).max(), 1) + 1) / 2 if diverging else cam
    left, top, right, bottom = map(round, answer.box)
    values = np.asarray(Image.fromarray(cam).resize((right - left, bottom - top), RESAMPLING["BICUBIC"]))
    jet = np.clip(1.5 - abs(4 * values[..., None] - [3, 2, 1]), 0, 1)
    seen = photo.crop((left, top, right, bottom))
    drawn = photo.copy()
    drawn.paste(Image.blend(seen, Image.fromarray(np.uint8(jet * 255)), 0.5), (left, top))
    return drawn


# Every artifact records its answer to a fixed image.


def make_reference_image(shape, dtype):
    """``sin(i + n)`` for element i of image n; in levels from 0 to 255 where the artifact takes photos."""
    index = np.arange(int(np.prod(shape[1:])), dtype=np.float64).reshape(shape[1:])
    waves = np.stack([np.sin(index + n) for n in range(shape[0])])
    return np.round(127.5 + 127.5 * waves).astype(np.uint8) if dtype == "uint8" else waves.astype(dtype)


def average_cells(cam):
    """The means of a heatmap over an 8 x 8 grid."""
    for axis in range(cam.ndim):
        length = cam.shape[axis]
        edges = np.unique(np.linspace(0, length, min(length, 8) + 1).round().astype(int))
        lengths = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(cam.ndim)])
        cam = np.add.reduceat(cam, edges[:-1], axis=axis) / lengths
    return cam.ravel()


def correlate(found, expected):
    """The correlation of two heatmaps; of a constant heatmap, whether the other one is constant too."""
    return np.corrcoef(found, expected)[0, 1] if expected.std() else found.std() == 0


def measure_parity(model, record):
    """The difference between this device's answer to the fixed image and the recorded answer."""
    reference = record["reference"]
    sizes = list(reference["size"] or [])
    shape = [int(sizes.pop(0) if n is None else n) for n in record["image_shape"][1:]]
    expected, maps = np.array(reference["logits"]), np.array(reference["cam"])
    image = make_reference_image([len(expected), *shape], record["inputs"]["image"]["dtype"])
    logits, _, cam = model.run([image, np.array(reference["class_idx"], np.int64)])[:3]
    _, predicted, _ = model.run([image, np.full_like(reference["class_idx"], -1, np.int64)])[:3]
    flat = logits.reshape(len(logits), -1)
    positions = np.unique(np.linspace(0, flat.shape[1] - 1, min(flat.shape[1], 16)).round().astype(int))
    found = np.stack([average_cells(each.astype(np.float64)) for each in cam])
    figures = {
        "logits": float(np.abs(flat[:, positions] - expected).max() / max(1.0, np.abs(expected).max())),
        "cam": float(np.abs(found - maps).max() / max(1.0, np.abs(maps).max())),
        "correlation": float(min(correlate(ours, theirs) for ours, theirs in zip(found, maps))),
        "top1_agreement": float(np.mean(predicted == np.array(reference["class_idx"]))),
    }
    within = figures["logits"] <= reference["logits_tolerance"] and figures["cam"] <= reference["cam_tolerance"]
    return {**figures, "within_tolerance": bool(within)}
