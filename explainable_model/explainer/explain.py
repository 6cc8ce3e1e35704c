"""``explain``: a photo and a network in, an answer that shows itself out."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.explainer.answers import Answer, resolve_class, split_classes
from explainable_model.explainer.detector import DetectorExplainer, is_detector, open_detector
from explainable_model.explainer.explain_volume import explain_volumes, refuse_options_of_photos, refuse_volumes
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.open_explainer import open_explainer, open_session
from explainable_model.explainer.photo_detections import PhotoDetections, explain_boxes
from explainable_model.explainer.photo_explanation import PhotoExplanation, PhotoExplanations
from explainable_model.explainer.photos import OpenedPhoto, is_single, iterate_photos, read_photo
from explainable_model.explanation import PREDICTED, OutputKind, Progress
from explainable_model.imaging.volumes import VolumePreprocess
from explainable_model.imaging.window import Window
from explainable_model.progress import ProgressLike, as_progress

if TYPE_CHECKING:
    from typing import Unpack

    from PIL.Image import Image

    from explainable_model.attribution.plan import PlanArguments

    class ExplainArguments(PlanArguments, total=False):
        """The arguments of ``explain`` besides those that decide what it returns; editors list them."""

        target_layer: Any
        preprocess: Any
        class_names: Any
        output_kind: OutputKind | None
        checkpoint: str | Path | None
        pretrained: bool
        window: Window | None
        progress: ProgressLike
        fusion: str


Answers: TypeAlias = PhotoExplanation | PhotoExplanations | PhotoDetections
ClassLike: TypeAlias = int | str | None


@overload
def explain(
    photos: "str | Path | Image",
    model: Any,
    class_idx: int | Sequence[int] | None = ...,
    *,
    task: Literal["detection"],
    **arguments: Any,
) -> PhotoDetections: ...


@overload
def explain(
    photos: "str | Path | Image",
    model: Any,
    class_idx: ClassLike = ...,
    *,
    method: str = ...,
    **arguments: "Unpack[ExplainArguments]",
) -> PhotoExplanation: ...


@overload
def explain(
    photos: "str | Path | Image", model: Any, class_idx: Sequence[ClassLike], **arguments: "Unpack[ExplainArguments]"
) -> PhotoExplanations: ...


@overload
def explain(
    photos: "str | Path | Image",
    model: Any,
    class_idx: ClassLike = ...,
    *,
    method: list[str],
    **arguments: "Unpack[ExplainArguments]",
) -> PhotoExplanations: ...


@overload
def explain(
    photos: Any,
    model: Any,
    class_idx: ClassLike | Sequence[ClassLike] = ...,
    *,
    method: str | Sequence[str] = ...,
    **arguments: "Unpack[ExplainArguments]",
) -> Any: ...


def explain(
    photos: Any,
    model: Any,
    class_idx: ClassLike | Sequence[ClassLike] = None,
    *,
    target_layer: Any = None,
    method: str | Sequence[str] | None = None,
    preprocess: Any = None,
    class_names: Any = None,
    output_kind: OutputKind | None = None,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    window: Window | None = None,
    progress: ProgressLike = None,
    **options: Any,
) -> Any:
    """Explain photos.

    Args:
        photos: one photo: a path, a picture of Pillow, ``(H, W, 3)`` of NumPy, ``(3, H, W)`` of torch (uint8, gray
            uint16, or floats from 0 to 1). Or several: a folder, a pattern such as ``photos/**/*.jpg``, a batch of four
            dimensions, a sequence or an iterator. Or a volume: the path of a NIfTI file, or ``(x, y, z)``. (A type
            checker takes a text or a ``Path`` for one photo.)
        model: an ``nn.Module``, an ``ExplainableModel``, a ``NamedModel``, a name such as ``timm:resnet50``, the path
            of an artifact, or a ``Session``.
        class_idx: the class to explain, by number or by name; ``None`` for the predicted class. A list explains each.
            Of a detector, the rank of the box to explain or a list of ranks; ``None`` for the best boxes.
        target_layer, options: as of ``ExplainableModel``; ``task="detection"`` explains each box of a detector.
        method: a key of ``METHODS``, or several. ``None`` is Grad-CAM; for the boxes of a detector it is HiResCAM.
        preprocess: from a photo to the network's input: a ``Preprocess``, ``weights.transforms()`` of torchvision, a
            ``Compose``, a data config of timm, or an image processor of transformers. Networks of timm know theirs. For
            volumes, a ``VolumePreprocess``.
        class_names: one per class, in a sequence or by index.
        output_kind: how the output is read as probabilities, see ``OUTPUT_KINDS``; ``None`` finds it.
        checkpoint, pretrained: trained weights for a network by its name.
        window: the values of a picture of more than 8 bits that become black and white, see ``Preprocess``.
        progress: ``True`` for a bar, or a function that is called with (``"photos"``, photos done, photos in all) for
            several photos; with -1 photos in all where their number is unknown.

    Returns:
        A ``PhotoExplanation`` for one photo; ``PhotoExplanations``, a tuple of them, where several classes or methods
        were asked for; ``PhotoDetections`` of a detector; a ``VolumeExplanation`` for a volume. For several photos, an
        iterator, which reads and explains a photo when it is asked for the next.

    Raises:
        InputError: a photo that cannot be read, an unknown class, or a network whose preparation is unknown.
        LayerError, ModelError, ArtifactError, MissingRuntimeError: as ``ExplainableModel`` and ``load``.

    Example:
        >>> answer = explain("cat.jpg", "lite0.onnx")                  # doctest: +SKIP
        >>> answer.save("explained.png")                               # doctest: +SKIP
    """
    opening = partial(
        open_explainer,
        preprocess=preprocess,
        class_names=class_names,
        output_kind=output_kind,
        checkpoint=checkpoint,
        pretrained=pretrained,
    )
    if isinstance(preprocess, VolumePreprocess):
        refuse_options_of_photos(checkpoint=checkpoint, pretrained=pretrained, window=window, progress=progress)
        named = {"class_names": class_names, "output_kind": output_kind, **options}
        if target_layer is not None:
            named["target_layer"] = target_layer
        if method is not None:
            named["method"] = method
        return explain_volumes(photos, model, class_idx, preprocess, _find_class, **named)
    refuse_volumes(photos)
    model = open_session(model) or model  # before it is asked whether it is a detector
    if is_detector(model, options.get("task")):
        if output_kind is not None:
            raise InputError("output_kind reads the output of a classifier; leave it out with task='detection'.")
        given = {
            "preprocess": preprocess,
            "class_names": class_names,
            "checkpoint": checkpoint,
            "pretrained": pretrained,
        }
        detector = open_detector(model, **given, **_options_of_boxes(target_layer, method, options))
        boxes = partial(_explain_boxes, detector, _find_ranks(class_idx), window)
        return boxes(0, photos) if is_single(photos) else _stream(boxes, photos, as_progress(progress))
    explainers = _open_all(opening, model, target_layer, method, options)
    answer = partial(_explain_photo, explainers, class_idx, window, isinstance(method, list | tuple))
    if is_single(photos):
        return answer(0, photos)
    return _stream(answer, photos, as_progress(progress))


def _open_all(
    opening: Callable[..., Explainer],
    model: Any,
    target_layer: Any,
    method: str | Sequence[str] | None,
    options: dict[str, Any],
) -> list[Explainer]:
    """Open one explainer for each method."""
    if target_layer is not None:
        options = {**options, "target_layer": target_layer}
    if method is None or isinstance(method, str):
        return [opening(model, **options, **({} if method is None else {"method": method}))]
    if not method:
        raise InputError("method is empty; expected one or more of explainable_model.METHODS.")
    return [opening(model, **options, method=name) for name in method]


def _stream(answer: Callable[[int, Any], Answers], photos: Any, progress: Progress | None) -> Iterator[Answers]:
    count = len(photos) if hasattr(photos, "__len__") and not isinstance(photos, str) else -1
    for number, photo in enumerate(iterate_photos(photos)):
        yield answer(number, photo)
        if progress is not None:
            progress("photos", number + 1, count)


def _options_of_boxes(target_layer: Any, method: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``ExplainableModel`` for a detector."""
    if method is not None and not isinstance(method, str):
        raise InputError(f"method is {method!r}; expected one method for the boxes of a detector.")
    named = {"target_layer": target_layer, "method": method}
    given = {name: value for name, value in options.items() if name != "task"}
    return {**given, **{name: value for name, value in named.items() if value is not None}}


def _find_ranks(class_idx: Any) -> NDArray[np.int64] | None:
    """The ranks of the boxes to explain; ``None`` for the best."""
    if class_idx is None or (_is_integer(class_idx) and int(class_idx) == PREDICTED):
        return None
    ranks = list(class_idx) if isinstance(class_idx, list | tuple) else [class_idx]
    if not ranks or not all(_is_integer(rank) and not isinstance(rank, bool) for rank in ranks):
        raise InputError(
            f"class_idx is {class_idx!r}; for a detector it is the rank of a box, 0 for the best, or a list."
        )
    return np.asarray(ranks, np.int64)


def _explain_boxes(
    explainer: DetectorExplainer, ranks: NDArray[np.int64] | None, window: Window | None, number: int, photo: Any
) -> PhotoDetections:
    """Explain the boxes of one photo."""
    return explain_boxes(explainer, read_photo(photo, number, window or explainer.preprocess.window), ranks)


def _explain_photo(
    explainers: Sequence[Explainer],
    class_idx: ClassLike | Sequence[ClassLike],
    window: Window | None,
    several: bool,
    number: int,
    photo: Any,
) -> Answers:
    """Explain one photo by each method and for each class."""
    opened = read_photo(photo, number, window or explainers[0].preprocess.window)
    several = several or isinstance(class_idx, list | tuple) or explainers[0].top_k is not None
    wanted: list[Any] = list(class_idx) if isinstance(class_idx, list | tuple) else [class_idx]
    found = [answer for explainer in explainers for name in wanted for answer in explain_class(explainer, opened, name)]
    return PhotoExplanations(found) if several else found[0]


def explain_class(explainer: Explainer, opened: OpenedPhoto, class_idx: ClassLike) -> list[PhotoExplanation]:
    """Explain one class of one photo; with ``top_k``, further classes follow.

    Raises:
        InputError: an unknown class.
    """
    index = _find_class(class_idx, explainer)
    classes = None if index is None else np.asarray([index], np.int64)
    box = explainer.preprocess.box(*opened.picture.size)
    answers = split_classes(explainer.run(explainer.preprocess(opened.picture), classes))
    return [_as_photo_explanation(explainer, opened, answer, box) for answer in answers]


def _as_photo_explanation(explainer: Explainer, opened: OpenedPhoto, answer: Answer, box: Any) -> PhotoExplanation:
    return PhotoExplanation(
        photo=opened.picture,
        name=opened.name,
        path=opened.path,
        cam=answer.cam[0],
        logits=answer.logits[0],
        class_idx=int(answer.class_idx[0]),
        box=box,
        explainer=explainer,
    )


def _find_class(class_idx: Any, explainer: Explainer) -> int | None:
    """The number of a class; ``None`` for the predicted one."""
    if isinstance(class_idx, bool) or not (class_idx is None or isinstance(class_idx, str) or _is_integer(class_idx)):
        raise InputError(f"class_idx is {class_idx!r}; expected a number, a name, or a list of them.")
    if class_idx is None or (not isinstance(class_idx, str) and int(class_idx) == PREDICTED):
        return None
    return resolve_class(str(class_idx if isinstance(class_idx, str) else int(class_idx)), explainer.class_names)


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__")
