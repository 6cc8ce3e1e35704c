"""The right answer of a detector to a picture, and what is wrong with a server's."""

import base64
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from client import Reply
from PIL import Image

from explainable_model.explainer.detector import DetectorExplainer
from explainable_model.explainer.photo_detections import PhotoDetections, explain_boxes
from explainable_model.explainer.photos import OpenedPhoto

ROUNDING = 0.5 / 255  # the heatmaps have 8 bits
TOLERANCE = 1e-3  # of maps and scores, between two runtimes
PIXELS = 0.1  # of edges


@dataclass(frozen=True)
class ExpectedBoxes:
    """The right answer for a picture."""

    found: PhotoDetections

    @property
    def other(self) -> tuple[str, int]:
        """A field that asks for another explanation, and its value: the rank of the second box, or of the first."""
        return "box", min(1, max(len(self.found) - 1, 0))

    def find_problem(self, reply: Reply) -> str:
        """The problem of a reply, or an empty string."""
        if (reply.status, reply.content_type.split(";")[0]) != (200, "application/json"):
            return f"status {reply.status}, {reply.content_type}: {reply.body[:200]!r}"
        record = reply.parse_json()
        if (record["size"], record["seen"]) != (list(self.found.photo.size), list(self.found.box)):
            return f"size and part {record['size']}, {record['seen']} instead of {self.found.photo.size}"
        problem = self._compare(record["boxes"])
        if problem:
            return problem
        for box, cam in zip(record["boxes"], self.found.cam, strict=True):
            gray = np.asarray(Image.open(io.BytesIO(base64.b64decode(box["heatmap"]))), np.float64) / 255
            low, high = box["range"]
            off = float(np.abs(low + gray * (high - low) - cam).max()) if gray.shape == cam.shape else np.inf
            if off > (ROUNDING + TOLERANCE) * (high - low):
                return f"the heatmap of {box['class_name']} differs by {off:.4f}"
        return ""

    def find_overlay_problem(self, reply: Reply) -> str:
        """The problem of an overlay, or an empty string. The server chooses size and colors, and not the place."""
        if (reply.status, reply.content_type) != (200, "image/png"):
            return f"status {reply.status}, {reply.content_type}: {reply.body[:200]!r}"
        problem = self._compare(json.loads(reply.headers.get("X-Explanation") or "{}").get("boxes", []))
        got = Image.open(io.BytesIO(reply.body)).convert("RGB")
        want = self.found.overlay().resize(got.size)
        correlation = np.corrcoef(np.asarray(got).ravel(), np.asarray(want).ravel())[0, 1]
        return problem or (
            "" if correlation > 0.9 else f"the overlay correlates {correlation:.3f} with the library's own"
        )

    def _compare(self, boxes: list[dict[str, Any]]) -> str:
        """Compare classes, scores and places."""
        names = [box["class_name"] for box in boxes]
        if names != list(self.found.class_names):
            return f"boxes of {names} instead of {self.found.class_names}"
        for box, score, place in zip(boxes, self.found.scores, self.found.boxes, strict=True):
            if abs(box["score"] - score) > TOLERANCE or np.abs(np.asarray(box["box"]) - place).max() > PIXELS:
                return f"the box {box['box']} of {box['score']} instead of {place.tolist()} of {score}"
        return ""


def expect_boxes(explainer: DetectorExplainer, photo: Image.Image, rank: int | None) -> ExpectedBoxes:
    """The detector's own answer for a photo, of all boxes or of the one of this rank."""
    ranks = None if rank is None else np.asarray([rank], np.int64)
    return ExpectedBoxes(explain_boxes(explainer, OpenedPhoto(photo, None, "photo"), ranks))
