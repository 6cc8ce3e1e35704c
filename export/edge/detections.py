"""Read the boxes of a detector's artifact, each with its heatmap, and compare them with the recorded ones."""

import base64
import colorsys
from typing import NamedTuple

import numpy as np
from edge import (
    Answer,
    average_cells,
    check_outputs,
    correlate,
    draw_overlay,
    find_place,
    make_inputs,
    make_reference_image,
    prepare_image,
)
from PIL import ImageDraw

HUES = (0.0, 0.33, 0.58, 0.15, 0.83, 0.5, 0.08, 0.72, 0.25, 0.92)
COARSE = 2**21  # letters of a coarse photo


class Found(NamedTuple):
    """The boxes of one photo, the best first.

    Attributes:
        boxes: ``(k, 4)``: left, top, right, bottom in pixels of the photo.
        scores: ``(k,)``.
        labels: ``(k,)``.
        cam: ``(k, h, w)``, the heatmap of each box.
        box: left, top, right and bottom of the part of the photo that the heatmaps cover.
    """

    boxes: object
    scores: object
    labels: object
    cam: object
    box: tuple


def find_boxes(model, record, photo, rank):
    """The boxes of one photo: the best, or the one of a rank."""
    if not -1 <= rank < record["classes"]:
        raise ValueError(f"the rank of the box is {rank}; expected 0 to {record['classes'] - 1}, or -1 for the best.")
    image, seen = prepare_image(photo, record)
    inputs = make_inputs(image, -1, record)
    inputs[1].reshape(len(inputs[1]), -1)[:, 0] = rank
    outputs = model.run(inputs)
    check_outputs(outputs, record, len(inputs[0]))
    boxes, scores, labels, valid, cam = (output[0] for output in outputs)
    kept = valid.copy()
    kept[1 if rank >= 0 else len(kept) :] = False
    placed, maps = place_boxes(boxes[kept].astype(np.float64), cam[kept], photo.size, seen, record)
    return Found(placed, scores[kept], labels[kept], maps, seen)


def place_boxes(boxes, cam, size, seen, record):
    """Boxes in pixels of the photo, and heatmaps without the border of the image."""
    if record.get("pixels"):
        return boxes, cam
    left, top, columns, rows = find_place(size, record["preprocess"])
    across, down = (seen[2] - seen[0]) / columns, (seen[3] - seen[1]) / rows
    placed = (boxes - np.tile([left, top], 2)) * np.tile([across, down], 2) + np.tile(seen[:2], 2)
    if record["preprocess"].get("pad") is not None:
        cam = cam[:, top : top + rows, left : left + columns]
    return np.clip(placed, 0, np.tile(size, 2)), cam


def describe_boxes(found, record):
    """The boxes for JSON: place, class, name, score and the heatmap's hottest point of each."""
    names, (left, top, right, bottom) = record["class_names"], found.box
    described = []
    for box, score, label, cam in zip(found.boxes, found.scores, found.labels, found.cam):
        row, column = np.unravel_index(int(cam.argmax()), cam.shape)
        x = left + (column + 0.5) * (right - left) / cam.shape[1]
        y = top + (row + 0.5) * (bottom - top) / cam.shape[0]
        described.append(
            {
                "box": [round(float(edge), 1) for edge in box],
                "class_idx": int(label),
                "class_name": names[label] if names else None,
                "score": float(score),
                "hottest": [round(float(x), 1), round(float(y), 1)],
            }
        )
    return {"boxes": described}


def draw_boxes(photo, found, diverging=False):
    """The photo under the largest value of all heatmaps, with the boxes in colors of their own."""
    if not len(found.boxes):
        return photo.copy()
    strongest = np.take_along_axis(found.cam, np.abs(found.cam).argmax(0)[None], 0)[0]
    drawn = draw_overlay(photo, Answer(0, None, strongest, found.box), diverging)
    draw = ImageDraw.Draw(drawn)
    width = max(2, max(photo.size) // 160)
    for rank in range(len(found.boxes) - 1, -1, -1):
        color = colorsys.hsv_to_rgb(HUES[rank % len(HUES)], 0.85, 1.0)
        edges = [round(float(edge)) for edge in found.boxes[rank]]
        draw.rectangle(edges, outline=tuple(round(255 * value) for value in color), width=width)
    return drawn


def make_coarse_image(photo, shape, dtype, batch, pixels=None):
    """The image of a coarse photo in the record, one color for each square; every second image is mirrored."""
    axes = (0, 1) if pixels in ("NHWC", "NHW") else (1, 2)
    small = [-(-n // photo["side"]) if axis in axes else n for axis, n in enumerate(shape)]
    stored = base64.b64decode(photo["values"][:COARSE])
    if len(stored) != np.prod(small, dtype=float):
        raise ValueError(f"the record's photo has {len(stored)} squares; expected {np.prod(small)}.")
    levels = np.frombuffer(stored, np.uint8).reshape(small)
    values = photo["low"] + levels * ((photo["high"] - photo["low"]) / 255)
    for axis in axes:
        values = np.take(values, np.arange(shape[axis]) // photo["side"], axis=axis)
    images = [np.flip(values, axes[1]) if n % 2 else values for n in range(batch)]
    return np.stack(images).astype(dtype)


def measure_box_parity(model, record):
    """The difference between this device's boxes in the fixed image and the recorded ones."""
    reference = record["reference"]
    if reference is None:
        raise ValueError("the artifact has no recorded answer to compare with; export it with reference=.")
    sizes, dtype = list(reference["size"]), record["inputs"]["image"]["dtype"]
    shape = [int(sizes.pop(0) if n is None else n) for n in record["image_shape"][1:]]
    expected, maps = np.array(reference["logits"]), np.array(reference["cam"])
    if reference.get("photo"):
        image = make_coarse_image(reference["photo"], shape, dtype, len(expected), record["pixels"])
    else:
        image = make_reference_image([len(expected), *shape], dtype)
    ranks = np.full([len(image), *record["inputs"]["class_idx"]["shape"][1:]], -1, np.int64)
    boxes, scores, labels, _, cam = model.run([image, ranks])
    height, width = reference["size"]
    found = np.concatenate([boxes / np.array([width, height] * 2), scores[..., None]], -1).reshape(len(image), -1)
    cells = np.stack([average_cells(each.astype(np.float64)) for each in cam])
    figures = {
        "logits": float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())),
        "cam": float(np.abs(cells - maps).max() / max(1.0, np.abs(maps).max())),
        "correlation": float(min(correlate(ours, theirs) for ours, theirs in zip(cells, maps))),
        "top1_agreement": float(np.mean(labels.reshape(len(image), -1) == np.array(reference["class_idx"]))),
    }
    within = figures["logits"] <= reference["logits_tolerance"] and figures["cam"] <= reference["cam_tolerance"]
    return {**figures, "within_tolerance": bool(within and figures["top1_agreement"] == 1)}
