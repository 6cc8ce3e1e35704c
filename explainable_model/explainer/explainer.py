"""Explains photos by a network or by an artifact, and writes pictures. Needs no torch for ONNX."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.limits import check_volume
from explainable_model.errors import ExplainableModelError, InputError, ModelError
from explainable_model.explainer.answers import (
    TOP,
    Answer,
    describe_classes,
    expand_class_idx,
    take_first,
)
from explainable_model.explainer.refusals import refuse_border, refuse_boxes
from explainable_model.explanation import PRESENT, Explanation, OutputKind, check_presence
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.imaging.volumes import VolumePreprocess

if TYPE_CHECKING:
    from explainable_model.attribution.plan import Plan
    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import NamedModel
    from explainable_model.runtime import Session


SMOOTH = "bicubic"  # a map of few values shows no edges of its own


@dataclass(frozen=True)
class Explainer:
    """A network or an artifact that predicts and explains one image.

    Attributes:
        run: ``(image (1, C, H, W), class_idx (1,) or None) -> Explanation`` of arrays for one image.
        predict: ``images (N, C, H, W) -> output (N, ...)``, without maps where the network can leave them out.
        preprocess: from a photo to the image; of volumes, a ``VolumePreprocess``.
        class_names: one per class, if known.
        top_k: how many classes it explains at once; ``None`` for one.
        signed: whether its maps are signed: zero is no evidence, negative values speak against the class.
        output_kind: how the output is read as probabilities; ``None`` for unknown.
        classes: how many classes can be explained, if known.
        method: key of ``METHODS``.
        list_layers: lists the names of the explained layers, which may be known only after the first call.
        threshold: smallest probability of a class that is present.
    """

    run: Callable[[NDArray[Any], NDArray[np.int64] | None], Answer]
    predict: Callable[[NDArray[Any]], NDArray[Any]]
    preprocess: Preprocess | AsDecoded
    class_names: Sequence[str] | None
    top_k: int | None = None
    signed: bool = False
    output_kind: OutputKind | None = None
    classes: int | None = None
    method: str = ""
    list_layers: Callable[[], tuple[str, ...]] = tuple
    threshold: float = PRESENT

    def describe(self, answer: Answer, top: int = TOP) -> dict[str, Any]:
        """Describe the explained class and the best classes, see ``describe_classes``."""
        return describe_classes(
            answer, self.class_names, self.output_kind, top, classes=self.classes, threshold=self.threshold
        )

    def describe_method(self) -> str:
        """Name the method and the layers: ``Grad-CAM at layer4``."""
        layers = ", ".join(self.list_layers())
        return f"{self.method} at {layers}" if layers else self.method


def artifact_explainer(path: Path, *, trusted: bool = False) -> Explainer:
    """Open an artifact in its own runtime; ``trusted`` as in ``load``.

    Raises:
        ArtifactError, MissingRuntimeError: as ``load``.
        InputError: its metadata does not say how a photo becomes its input.
    """
    from explainable_model.runtime import load

    return session_explainer(load(path, trusted=trusted))


def session_explainer(session: "Session", preprocess: Any = None) -> Explainer:
    """Wrap an open artifact.

    Args:
        session: from ``load``.
        preprocess: how a photo becomes its input, where its metadata does not say so.

    Raises:
        InputError: neither says it.
    """
    metadata = session.metadata
    refuse_boxes(metadata.detection is not None, session.path.name)
    preparation = metadata.preparation or preprocess
    if preparation is None:
        raise InputError(
            f"{session.path} does not say how a photo becomes its input; export it with preprocess=Preprocess(...), or "
            "with a network of torchvision or timm by its name."
        )
    refuse_border(preparation)
    copies = metadata.batch or 1

    def run(image: NDArray[Any], class_idx: NDArray[np.int64] | None) -> Answer:
        check_volume(image.shape, copies, session.path)
        batch = np.repeat(image.astype(metadata.array_dtype), copies, 0)
        classes = None if class_idx is None else expand_class_idx(np.repeat(class_idx, copies), metadata.top_k)
        return take_first(session(batch, classes))

    def predict(images: NDArray[Any]) -> NDArray[Any]:
        size = metadata.batch or len(images)
        check_volume((size, *images.shape[1:]), 1, session.path)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        filled = [np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)]) for part in parts]
        outputs = [session.predict(np.ascontiguousarray(part.astype(metadata.array_dtype))) for part in filled]
        return np.concatenate(outputs)[: len(images)]

    return Explainer(
        run,
        predict,
        preparation,
        metadata.class_names,
        metadata.top_k,
        metadata.diverging,
        metadata.output_kind,
        metadata.classes,
        metadata.method,
        lambda: tuple(metadata.target_layers),
        metadata.threshold,
    )


def model_explainer(
    named: "NamedModel", layer: str | Sequence[str] | None = None, method: str = "gradcam", **options: Any
) -> Explainer:
    """Wrap a network, which is explained by autograd; further options are those of ``ExplainableModel``.

    Raises:
        LayerError, ModelError: as ``ExplainableModel``.
        InputError: it is not known how a photo becomes its input.
    """
    from explainable_model.model import ExplainableModel

    return wrapper_explainer(ExplainableModel(named.model, layer, method, **options), named)


def wrapper_explainer(explainable: "ExplainableModel", named: "NamedModel") -> Explainer:
    """Explain photos with a wrapped network.

    Args:
        explainable: the wrapper.
        named: its network, with its preparation and the names of its classes.

    Raises:
        InputError: it is not known how a photo becomes the input.
    """
    if named.preprocess is None:
        raise InputError(
            f"It is not known how a photo becomes the input of this {type(named.model).__name__}; let the "
            "factory return explainable_model.NamedModel(model, Preprocess(...), class_names)."
        )
    refuse_boxes(hasattr(explainable.plan.target, "max_boxes"), type(named.model).__name__)
    refuse_border(named.preprocess)
    shape = (1, len(named.preprocess.mean), *named.preprocess.size)
    return _wrap(explainable, named, named.preprocess, shape)


def volume_explainer(explainable: "ExplainableModel", named: "NamedModel", preprocess: VolumePreprocess) -> Explainer:
    """Explain volumes with a wrapped network, as ``wrapper_explainer`` explains photos."""
    return _wrap(explainable, named, preprocess, (1, 1, *preprocess.size))


def _wrap(
    explainable: "ExplainableModel",
    named: "NamedModel",
    preprocess: Any,
    shape: Sequence[int],
) -> Explainer:
    import torch

    from explainable_model.attribution.calling import call_network
    from explainable_model.attribution.context import CPU_PIXELS
    from explainable_model.attribution.prediction import find_prediction
    from explainable_model.attribution.targets import Binary

    plan = explainable.plan
    dtype = find_dtype(named.model)

    def run(image: NDArray[Any], class_idx: NDArray[np.int64] | None) -> Answer:
        pixels = torch.from_numpy(image).to(dtype)
        classes = None if class_idx is None else torch.from_numpy(expand_class_idx(class_idx, plan.top_k))
        with wrap_network_errors(named.model, tuple(pixels.shape)):
            logits, explained, cam = explainable(pixels, classes)
        check_names(named.class_names, _count_classes(plan, logits.shape))
        return take_first(Explanation(logits.float().numpy(), explained.numpy(), cam.float().numpy()))

    def predict(images: NDArray[Any]) -> NDArray[Any]:
        pixels = torch.from_numpy(images).to(dtype)
        few = max(1, CPU_PIXELS // math.prod(pixels.shape[2:]))
        with torch.no_grad(), wrap_network_errors(named.model, tuple(pixels.shape)):
            outputs = [call_network(named.model, plan.forward, part, ()) for part in torch.split(pixels, few)]
            found = [find_prediction(output, plan.output).tensor.float().cpu() for output in outputs]
        return torch.cat(found).numpy()

    kind = named.output_kind or _find_kind(named, plan, shape)
    check_presence(named.threshold, kind)
    classes = 2 if isinstance(plan.target, Binary) else None
    return Explainer(
        run,
        predict,
        preprocess,
        named.class_names,
        plan.top_k,
        plan.postprocess.diverging,
        kind,
        classes,
        plan.method.name,
        lambda: explainable.target_layers,
        named.threshold,
    )


def _count_classes(plan: "Plan", shape: Sequence[int]) -> int | None:
    """Count the classes of an output of this shape; ``None`` where the target reads the output in its own way."""
    from explainable_model.attribution.targets import Binary, ClassScore

    if isinstance(plan.target, Binary):
        return 2
    return (shape[1] if len(shape) > 1 else 1) if isinstance(plan.target, ClassScore) else None


def check_names(class_names: Sequence[str] | None, classes: int | None) -> None:
    """Refuse names of other classes than those of the network.

    Raises:
        InputError: more or fewer names than classes.
    """
    if class_names is not None and classes is not None and len(class_names) != classes:
        raise InputError(
            f"There are {len(class_names)} class names; the network has {classes} class(es). Expected one for each, in "
            "the order of the output."
        )


def _find_kind(named: "NamedModel", plan: "Plan", shape: Sequence[int]) -> OutputKind | None:
    """Find how the output of a network is read, with an image of noise."""
    import torch

    from explainable_model.lowering.eager_kind import find_output_kind

    image = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(find_dtype(named.model))
    try:
        with wrap_network_errors(named.model, tuple(image.shape)):
            return find_output_kind(named.model, image, (), plan)
    except ModelError:  # told where the network explains its first photo, unless its target reads the output itself
        return None


def find_dtype(model: Any) -> Any:
    """Find the floating-point type that a network computes in."""
    import torch

    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


@contextmanager
def wrap_network_errors(model: Any, shape: Sequence[int]) -> Iterator[None]:
    """Turn a foreign error inside the network into a ``ModelError`` that names the network and the image's shape."""
    try:
        yield
    except ExplainableModelError:
        raise
    except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise ModelError(
            f"{type(model).__name__} failed on an image of shape {tuple(shape)}: {error or type(error).__name__}. "
            "Is that the size it was built for?"
        ) from error
