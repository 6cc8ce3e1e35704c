"""Predict and explain a photo with NumPy, ONNX Runtime and Pillow alone.

python explain.py PHOTO ARTIFACT.onnx [-o OVERLAY.png] [--npy HEATMAP.npy] [--class N] [--threads T]
"""

import argparse
import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def open_session(path, threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0: all processors
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    record = json.loads(session.get_modelmeta().custom_metadata_map.get("explainable_model.json", "{}"))
    if not record.get("preprocess") and not record.get("pixels"):
        raise ValueError(f"{path} was not exported by explainable_model with preprocess=Preprocess(...).")
    return session, record


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


def to_image(photo, box, preprocess):
    """A photo as ``(1, C, H, W)`` float32."""
    mean, std = (np.float32(preprocess[key]) for key in ("mean", "std"))
    resample = Image.Resampling[preprocess["interpolation"].upper()]
    small = photo.convert("L" if len(mean) == 1 else "RGB").resize(preprocess["size"][::-1], resample, box)
    pixels = np.asarray(small, np.float32).reshape(*preprocess["size"], -1) / np.float32(255)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])


def explain(photo, session, record, class_idx=-1):
    """``(class, logits, heatmap, box)`` of one photo; class -1 stands for the predicted one."""
    if not -1 <= class_idx < record["classes"]:
        raise ValueError(f"class {class_idx} is out of range; expected 0 to {record['classes'] - 1}.")
    copies = record["image_shape"][0] or 1  # an artifact of a fixed batch takes no other
    if record.get("pixels"):  # it prepares photos itself
        box, image = (0, 0, *photo.size), np.asarray(photo)[None]
        image = image if record["pixels"] == "NHWC" else image.transpose(0, 3, 1, 2)
    else:
        box = seen_box(*photo.size, record["preprocess"])
        image = to_image(photo, box, record["preprocess"])
    image = np.repeat(image, copies, axis=0)
    classes = np.full([copies, *record["inputs"]["class_idx"]["shape"][1:]], class_idx, np.int64)
    inputs = {"image": image, "class_idx": classes}
    logits, explained, cam = session.run(["logits", "explained_class_idx", "cam"], inputs)
    return int(explained.flat[0]), logits[0], cam.reshape(-1, *cam.shape[-2:])[0], box  # of several classes the best


def overlay(photo, cam, box, diverging=False):
    """The photo with the heatmap over it; in a diverging one zero is green, and blue speaks against the class."""
    cam = (cam / max(abs(cam).max(), 1) + 1) / 2 if diverging else cam
    left, top, right, bottom = map(round, box)
    values = np.asarray(Image.fromarray(cam).resize((right - left, bottom - top), Image.Resampling.BICUBIC))
    jet = np.clip(1.5 - abs(4 * values[..., None] - [3, 2, 1]), 0, 1)
    seen = photo.crop((left, top, right, bottom))
    photo.paste(Image.blend(seen, Image.fromarray(np.uint8(jet * 255)), 0.5), (left, top))
    return photo


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo")
    parser.add_argument("artifact")
    parser.add_argument("-o", "--out", help="write the photo with the heatmap over it")
    parser.add_argument("--npy", help="write the heatmap")
    parser.add_argument("--class", dest="class_idx", type=int, default=-1, help="default: the predicted one")
    parser.add_argument("--threads", type=int, default=0, help="default: all processors")
    options = parser.parse_args()
    session, record = open_session(options.artifact, options.threads)
    photo = ImageOps.exif_transpose(Image.open(options.photo)).convert("RGB")
    class_idx, logits, cam, box = explain(photo, session, record, options.class_idx)
    names = record["class_names"]
    found = {"class_idx": class_idx, "class_name": names[class_idx] if names else None}
    if logits.ndim == 1 and len(logits) > 1:
        odds = np.exp(logits - logits.max())
        found["probability"] = float(odds[class_idx] / odds.sum())
    if options.npy:
        np.save(options.npy, cam)
    if options.out:
        overlay(photo, cam, box, record["cam_range"][0] != 0).save(options.out)
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever Pillow or ONNX Runtime raise for a file they cannot read
        sys.exit(f"error: {error}")
