"""Ask Triton, or KServe, to explain photos: python explain.py photo.jpg --url http://127.0.0.1:8000 --name lite0.

Speaks the Open Inference Protocol (v2) with binary tensors over the standard library's HTTP.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model import DetectionExplanation, Explanation, Preprocess
from explainable_model.errors import ExplainableModelError, InputError
from explainable_model.explainer.answers import describe_classes, expand_class_idx, label_class, split_classes
from explainable_model.explainer.detector import DetectorExplainer
from explainable_model.explainer.photo_detections import PhotoDetections, explain_boxes
from explainable_model.explainer.photo_pictures import draw_overlay
from explainable_model.explainer.photos import OpenedPhoto
from explainable_model.explanation import (
    CAM,
    CLASS_IDX,
    DETECTION_NAMES,
    EXPLAINED_CLASS_IDX,
    IMAGE,
    LOGITS,
    PREDICTED,
    as_detections,
)
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import open_photo
from explainable_model.imaging.sheets import save_picture

DTYPES = {"UINT8": "u1", "UINT16": "<u2", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "BOOL": "?"}
HEADER_LENGTH = "Inference-Header-Content-Length"
PARAMETER = "explainable_model"
TIMEOUT = 60.0


class Model:
    """One model of a server, which tells the model's inputs and outputs."""

    def __init__(self, url: str, name: str) -> None:
        self._at = f"{url.rstrip('/')}/v2/models/{name}"
        described = json.loads(self._ask(self._at)[0])
        self._outputs = [tensor["name"] for tensor in described["outputs"]]
        config = json.loads(self._ask(f"{self._at}/config")[0])
        record = json.loads(config["parameters"][PARAMETER]["string_value"])
        roles = {own: name for name, own in record.get("input_names", {}).items()}  # else TorchScript's have an index
        names = [tensor["name"] for tensor in described["inputs"]]
        inputs = zip((roles.get(name, name.partition("__")[0]) for name in names), described["inputs"], strict=True)
        self._inputs = dict(inputs)
        if record["preprocess"] is None and record["pixels"] is None:
            raise InputError(
                f"{name} does not say how a photo becomes its input; export it with preprocess=Preprocess(...)."
            )
        prepared, kind = Preprocess(**record["preprocess"]), record.get("pixel_dtype", "uint8")
        self.preprocess = AsDecoded(record["pixels"], prepared.window, kind) if record["pixels"] else prepared
        self.classes, self.top_k = int(record["classes"]), record["top_k"]
        self.has_boxes, self.method = record.get("detection") is not None, record["method"]
        self.diverging = record["cam_range"][0] != 0
        self.output_kind = record.get("output_kind")
        self.threshold = record.get("threshold", 0.5)

    def __call__(self, image: Any, class_idx: Sequence[int]) -> Explanation[Any]:
        """The explanation of images ``(N, C, H, W)`` for classes ``(N,)``; of k classes where ``top_k`` is set."""
        arrays = self._infer(image, class_idx)
        explained = arrays[EXPLAINED_CLASS_IDX]
        return Explanation(arrays[LOGITS], explained.reshape(-1) if self.top_k is None else explained, arrays[CAM])

    def detect(self, image: Any, ranks: Sequence[int]) -> DetectionExplanation[Any]:
        """The boxes of images ``(N, C, H, W)``: the best, or first the one of the rank ``(N,)``."""
        arrays = self._infer(image, ranks)
        return as_detections([arrays[name] for name in DETECTION_NAMES])

    def _infer(self, image: Any, class_idx: Sequence[int]) -> dict[str, Any]:
        outside = [index for index in class_idx if not PREDICTED <= index < self.classes]
        if outside:  # the server would explain another class, or fail for the whole batch
            raise InputError(
                f"The {'rank of the box' if self.has_boxes else 'class'} is {outside[0]}; expected 0 to "
                f"{self.classes - 1}, or {PREDICTED} for the {'best boxes' if self.has_boxes else 'predicted class'}."
            )
        sent = {IMAGE: image, CLASS_IDX: expand_class_idx(np.asarray(class_idx, np.int64), self.top_k)}
        parts, listed = [], []
        for key, tensor in self._inputs.items():
            array = np.ascontiguousarray(sent[key], DTYPES[tensor["datatype"]])
            shape = [len(array), 1] if len(tensor["shape"]) > array.ndim else list(array.shape)
            parts.append(array.tobytes())
            size = {"binary_data_size": len(parts[-1])}
            listed.append({"name": tensor["name"], "shape": shape, "datatype": tensor["datatype"], "parameters": size})
        outputs = [{"name": name, "parameters": {"binary_data": True}} for name in self._outputs]
        header = json.dumps({"inputs": listed, "outputs": outputs}).encode()
        body, headers = self._ask(f"{self._at}/infer", b"".join([header, *parts]), {HEADER_LENGTH: str(len(header))})
        return read_arrays(body, int(headers[HEADER_LENGTH]))

    def _ask(self, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> tuple[bytes, Any]:
        request = urllib.request.Request(url, body, {"Content-Type": "application/octet-stream", **(headers or {})})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
                return reply.read(), reply.headers
        except urllib.error.HTTPError as error:
            raise InputError(f"{url} says {error.code}: {error.read().decode(errors='replace')}") from error
        except OSError as error:
            raise InputError(f"{url} cannot be reached: {error}. Does the server run?") from error


def read_arrays(body: bytes, header_length: int) -> dict[str, Any]:
    """Read the tensors after the JSON header, by name without TorchScript's index."""
    arrays, start = {}, header_length
    for tensor in json.loads(body[:header_length])["outputs"]:
        end = start + tensor["parameters"]["binary_data_size"]
        array = np.frombuffer(body[start:end], DTYPES[tensor["datatype"]]).reshape(tensor["shape"])
        arrays[tensor["name"].partition("__")[0]] = array
        start = end
    return arrays


def explain(model: Model, photos: Sequence[Path], class_idx: int, out: Path) -> None:
    """Write ``<photo>-overlay.png`` for each photo, and print its class, or its boxes."""
    out.mkdir(parents=True, exist_ok=True)
    for path in photos:
        photo = open_photo(path, model.preprocess.window)
        if model.has_boxes:
            found = find_boxes(model, OpenedPhoto(photo, path, path.name), class_idx)
            print(f"{found.save(out / f'{path.stem}-overlay.png', 'overlay')}: {found.label}")
            continue
        answer = split_classes(model(model.preprocess(photo), [class_idx]))[0]
        box = model.preprocess.box(*photo.size)
        picture = draw_overlay(photo, answer.cam[0], box, OverlayStyle(), signed=model.diverging)
        record = describe_classes(answer, None, model.output_kind, classes=model.classes, threshold=model.threshold)
        words = label_class(record)
        print(f"{save_picture(picture, out / f'{path.stem}-overlay.png')}: {words}")


def find_boxes(model: Model, photo: OpenedPhoto, rank: int = PREDICTED) -> PhotoDetections:
    """Find the best boxes in a photo, or the one of this rank."""

    def run(image: Any, ranks: Any) -> DetectionExplanation[Any]:
        return model.detect(image, [rank])

    explainer = DetectorExplainer(run, model.preprocess, None, model.method, signed=model.diverging)
    return explain_boxes(explainer, photo, None if rank == PREDICTED else np.asarray([rank]))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--name", required=True, help="the model's name")
    parser.add_argument(
        "--class",
        dest="class_idx",
        type=int,
        default=PREDICTED,
        help="the class to explain, or the rank of the box; default: the predicted class, or the best boxes",
    )
    parser.add_argument("--out", type=Path, default=Path("."), help="the folder of the overlays")
    chosen = parser.parse_args()
    try:
        explain(Model(chosen.url, chosen.name), chosen.photos, chosen.class_idx, chosen.out)
    except ExplainableModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
