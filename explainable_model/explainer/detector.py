"""Explains the boxes of a detector, which is a network or an artifact. Needs no torch for ONNX."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.limits import check_volume
from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import BOXES, DETECTION
from explainable_model.explainer.explainer import SMOOTH, find_dtype, wrap_network_errors
from explainable_model.explainer.open_explainer import (
    INSIDE,
    as_class_names,
    name_network,
    open_session,
    refuse_options,
    translate_preprocess,
)
from explainable_model.explanation import BOX_METHOD, PREDICTED, DetectionExplanation, Detections
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Preprocess

if TYPE_CHECKING:
    from explainable_model.artifact.metadata import Metadata
    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import NamedModel
    from explainable_model.runtime import Session

Answer = DetectionExplanation[NDArray[Any]]


@dataclass(frozen=True)
class DetectorExplainer:
    """A detector that finds boxes in one image and explains each.

    Attributes:
        run: ``(image (1, C, H, W), ranks (1, k) or None) -> DetectionExplanation`` of arrays.
        preprocess: from a photo to the image.
        class_names: one per class, if known.
        method: key of ``METHODS``.
        list_layers: lists the names of the explained layers.
        signed: whether its maps are signed.
    """

    run: Callable[[NDArray[Any], NDArray[np.int64] | None], Answer]
    preprocess: Preprocess | AsDecoded
    class_names: Sequence[str] | None
    method: str = ""
    list_layers: Callable[[], tuple[str, ...]] = tuple
    signed: bool = False

    def describe_method(self) -> str:
        """Name the method and the layers: ``hirescam at the inputs of the head``."""
        names = self.list_layers()
        if names and all(name.startswith("levels.") for name in names):
            return f"{self.method} at the inputs of the head"
        return f"{self.method} at {', '.join(names)}" if names else self.method

    def name_class(self, label: int) -> str:
        """Name a class as the detector counts.

        Raises:
            InputError: there are names, and none of this class.
        """
        if self.class_names is None:
            return f"class {label}"
        if not 0 <= label < len(self.class_names):
            raise InputError(
                f"The detector found the class {label}; there are {len(self.class_names)} class names. Expected one "
                "for each class as the detector counts, which may begin with the background."
            )
        return self.class_names[label]


def is_detector(model: Any, task: str | None) -> bool:
    """Whether boxes are to be explained: asked for, or inside an artifact or a wrapper."""
    if task is not None:
        return task == DETECTION
    if isinstance(model, DetectorExplainer):
        return True
    metadata = getattr(model, "metadata", None)  # of a session
    plan = getattr(model, "plan", None)  # of a wrapper
    return getattr(metadata, "detection", None) is not None or hasattr(getattr(plan, "target", None), "max_boxes")


def open_detector(
    model: Any,
    *,
    preprocess: Any = None,
    class_names: Any = None,
    checkpoint: Any = None,
    pretrained: bool = False,
    **options: Any,
) -> DetectorExplainer:
    """Open a detector; the arguments are those of ``open_explainer``.

    Raises:
        ModelError, LayerError, InputError: as ``open_explainer`` and ``ExplainableModel``; or an artifact of another
            task.
    """
    names = as_class_names(class_names)
    if isinstance(model, DetectorExplainer):
        refuse_options(options, "a DetectorExplainer has its method and its options inside")
        return replace(model, class_names=names or model.class_names)
    session = open_session(model)
    if session is not None:
        refuse_options({**options, **({"checkpoint": checkpoint} if checkpoint else {})}, INSIDE)
        explainer = session_detector(session, translate_preprocess(preprocess))
        return replace(explainer, class_names=names or explainer.class_names)
    from explainable_model.model import ExplainableModel

    named = name_network(model, preprocess, names, None, checkpoint, pretrained)
    if isinstance(model, ExplainableModel):
        refuse_options(options, "an ExplainableModel has its layer, its method and their options inside")
        return wrapper_detector(model, named)
    return model_detector(named, **options)


def model_detector(named: "NamedModel", **options: Any) -> DetectorExplainer:
    """Wrap a network, which is explained by autograd; the options are those of ``ExplainableModel``."""
    from explainable_model.model import ExplainableModel

    layer = options.pop("target_layer", None)
    method = options.pop("method", None) or BOX_METHOD
    arguments = {"upsample": SMOOTH, "top_k": BOXES, **options}
    return wrapper_detector(ExplainableModel(named.model, layer, method, task=DETECTION, **arguments), named)


def wrapper_detector(explainable: "ExplainableModel", named: "NamedModel") -> DetectorExplainer:
    """Explain photos with a wrapped detector.

    Raises:
        InputError: it is not known how a photo becomes the image, or the wrapped network is no detector.
    """
    import torch

    if named.preprocess is None:
        raise InputError(
            f"It is not known how a photo becomes the input of this {type(named.model).__name__}; let the factory "
            "return explainable_model.NamedModel(model, Preprocess(...), class_names)."
        )
    dtype, plan = find_dtype(named.model), explainable.plan

    def run(image: NDArray[Any], ranks: NDArray[np.int64] | None) -> Answer:
        pixels = torch.from_numpy(image).to(dtype)
        wanted = None if ranks is None else torch.from_numpy(_fill(ranks, plan.top_k))
        with wrap_network_errors(named.model, tuple(pixels.shape)):
            answer: Any = explainable(pixels, wanted)
        parts = [part.cpu().numpy() for part in answer.detections]
        return DetectionExplanation(Detections(*parts), answer.cam.float().cpu().numpy())

    return DetectorExplainer(
        run,
        named.preprocess,
        named.class_names,
        plan.method.name,
        lambda: explainable.target_layers,
        plan.postprocess.diverging,
    )


def session_detector(session: "Session", preprocess: Preprocess | None = None) -> DetectorExplainer:
    """Explain photos with an open artifact of a detector.

    Raises:
        InputError: it is no detector's, or nothing says how a photo becomes its input.
    """
    metadata = session.metadata
    if metadata.detection is None:
        raise InputError(f"{session.path} finds no boxes; leave out the task, or open the artifact of a detector.")
    preparation = metadata.preparation or preprocess
    if preparation is None:
        raise InputError(
            f"{session.path} does not say how a photo becomes its input; export it with preprocess=Preprocess(...)."
        )
    copies = metadata.batch or 1

    def run(image: NDArray[Any], ranks: NDArray[np.int64] | None) -> Answer:
        check_volume(image.shape, copies, session.path)
        batch = np.repeat(image.astype(metadata.array_dtype), copies, 0)
        wanted = None if ranks is None else np.repeat(_fill(ranks, metadata.top_k), copies, 0)
        answer: Any = session(batch, wanted)
        return DetectionExplanation(Detections(*(part[:1] for part in answer.detections)), answer.cam[:1])

    return artifact_detector(metadata, preparation, run)


def artifact_detector(
    metadata: "Metadata",
    preparation: Preprocess | AsDecoded,
    run: Callable[[NDArray[Any], NDArray[np.int64] | None], Answer],
) -> DetectorExplainer:
    """Name the method, the layers and the classes of an artifact, which ``run`` runs."""
    layers = tuple(metadata.target_layers)
    return DetectorExplainer(
        run, preparation, metadata.class_names, metadata.method, lambda: layers, metadata.diverging
    )


def _fill(ranks: NDArray[np.int64], top_k: int | None) -> NDArray[np.int64]:
    """Fill the ranks asked for up to as many as the detector explains at once.

    Raises:
        InputError: there are more.
    """
    count = 1 if top_k is None else top_k
    if ranks.shape[1] > count:
        raise InputError(f"{ranks.shape[1]} boxes were asked for; this detector explains {count} at once.")
    filled = np.full((len(ranks), count), PREDICTED, np.int64)
    filled[:, : ranks.shape[1]] = ranks
    return filled[:, 0] if top_k is None else filled
