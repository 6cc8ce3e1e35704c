"""The demo of detectors: explains each box of three photos, exports the detector and runs each artifact."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.demo.detector import PREPROCESS, load_detector
from explainable_model.demo.files import find_in_package, make_folder
from explainable_model.demo.report import Report
from explainable_model.explainer.detection_defaults import BOXES, DETECTION
from explainable_model.explainer.detector import DetectorExplainer, open_detector
from explainable_model.explainer.photo_detections import PhotoDetections, explain_boxes
from explainable_model.explainer.photos import OpenedPhoto
from explainable_model.explanation import BOX_METHOD
from explainable_model.imaging.overlay import ALPHA
from explainable_model.imaging.preprocess import open_photo
from explainable_model.imaging.sheets import contact_sheet, save_picture

if TYPE_CHECKING:
    from explainable_model.networks.named import NamedModel

PHOTOS = ("coins.png", "coffee.png", "astronaut.png")  # public domain or CC0, in the scikit-image wheel
ARTIFACTS: Mapping[str, str] = {"torchscript": "detector.ts", "onnx": "detector.onnx", "pt2": "detector.pt2"}
SHEET = "contact-sheet.png"


@dataclass(frozen=True)
class BoxDifference:
    """Largest differences between an artifact's answer and the eager detector's.

    Attributes:
        cam: difference of the maps, which lie in [0, 1].
        boxes: difference of the edges of the boxes in pixels of the photo.
        scores: difference of the scores.
    """

    cam: float
    boxes: float
    scores: float


@dataclass(frozen=True)
class PhotoBoxes:
    """The eager detector's boxes of a photo, and the differences of the artifacts.

    Attributes:
        photo: file name.
        boxes: place, class, score and hottest place of each, best first.
        differences: one for each artifact, by name of the format.
        panel: path of the sheet with a tile for each box.
        overlay: path of the picture with all boxes.
    """

    photo: str
    boxes: tuple[Mapping[str, Any], ...]
    differences: Mapping[str, BoxDifference]
    panel: Path
    overlay: Path


class BoxDemoReport(Report[PhotoBoxes]):
    """The results and files of the demo of detectors."""

    def to_dict(self) -> dict[str, Any]:
        """Make the record for JSON, with paths as text."""
        return {"task": DETECTION, **super().to_dict()}

    def to_table(self) -> str:
        """Format the results for people."""
        lines = []
        for photo in self.photos:
            boxes = ", ".join(f"{box['class_name']} {box['score']:.0%}" for box in photo.boxes)
            lines.append(f"{photo.photo}: {boxes or 'no box'}")
            differences = (f"{name} {d.cam:.1e} / {d.boxes:.1e} px" for name, d in photo.differences.items())
            lines.append(f"  map / box off by: {', '.join(differences)}")
        return "\n".join([*lines, "(largest difference of each artifact from the eager detector)"])


def run_box_demo(
    out: str | Path,
    *,
    colormap: str | None = None,
    alpha: float = ALPHA,
    say: Callable[[str], None] = lambda text: None,
) -> BoxDemoReport:
    """Explain the boxes of the photos eagerly, export every format, and run each photo through each artifact.

    Args:
        out: folder for the artifacts and pictures; made if missing.
        colormap: a name that matplotlib knows; without it, each map has the color of its box where all are drawn.
        alpha: share of the heatmap in the overlays, 0 to 1.
        say: receives one line of progress before each step.

    Raises:
        MissingRuntimeError: a package of the ``demo`` extra is not installed.
        ArtifactError: the folder cannot be made or written to.
        VerificationError: an artifact disagrees with the detector.
    """
    folder = make_folder(out)
    say("loading the detector")
    photos = {name: _open(name) for name in PHOTOS}
    named = load_detector()
    say(f"explaining the boxes of {', '.join(photos)}")
    detector = open_detector(named)
    eager = {name: explain_boxes(detector, photo) for name, photo in photos.items()}
    artifacts = _export_all(named, PREPROCESS(photos[PHOTOS[0]].picture), folder, say)
    differences: dict[str, dict[str, BoxDifference]] = {name: {} for name in photos}
    for format, path in artifacts.items():
        say(f"running {path.name}")
        session = open_detector(path)
        for name, photo in photos.items():
            differences[name][format] = _compare(session, photo, eager[name])
    say("drawing")
    style: dict[str, Any] = {"colormap": colormap, "alpha": alpha}
    panels = {name: answer.panel(**style) for name, answer in eager.items()}
    records = tuple(
        PhotoBoxes(
            photo=name,
            boxes=tuple(answer.to_dict()["boxes"]),
            differences=differences[name],
            panel=save_picture(panels[name], folder / name),
            overlay=save_picture(answer.overlay(**style), folder / f"boxes-{name}"),
        )
        for name, answer in eager.items()
    )
    return BoxDemoReport(records, artifacts, save_picture(contact_sheet(list(panels.values())), folder / SHEET))


def _open(name: str) -> OpenedPhoto:
    path = find_in_package("skimage", "data", name)
    return OpenedPhoto(open_photo(path), path, name)


def _export_all(named: "NamedModel", image: Any, folder: Path, say: Callable[[str], None]) -> dict[str, Path]:
    import torch

    from explainable_model.explainer.explainer import SMOOTH
    from explainable_model.exporters.pipeline import export
    from explainable_model.model import ExplainableModel, lower

    say("lowering: differentiating the head ahead of time")
    explainable = ExplainableModel(named.model, method=BOX_METHOD, task=DETECTION, top_k=BOXES, upsample=SMOOTH)
    lowered = lower(explainable, torch.from_numpy(image))
    artifacts = {}
    for name, file in ARTIFACTS.items():
        say(f"exporting {file}")
        artifacts[name] = export(
            lowered,
            folder / file,
            format=name,
            preprocess=named.preprocess,
            class_names=named.class_names,
            reference=torch.from_numpy(image),
        )
    return artifacts


def _compare(session: DetectorExplainer, photo: OpenedPhoto, expected: PhotoDetections) -> BoxDifference:
    answer = explain_boxes(session, photo)
    if answer.class_names != expected.class_names:
        return BoxDifference(1.0, float("inf"), 1.0)
    return BoxDifference(
        cam=float(np.abs(answer.cam - expected.cam).max(initial=0)),
        boxes=float(np.abs(answer.boxes - expected.boxes).max(initial=0)),
        scores=float(np.abs(answer.scores - expected.scores).max(initial=0)),
    )
