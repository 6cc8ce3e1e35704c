"""From a detector and the user's arguments to a network that returns boxes, and to what is explained of them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from explainable_model.attribution.argument_values import MAX_TOP_K, as_flag, as_whole, describe
from explainable_model.attribution.box_maps import LEVELS, REGIONS
from explainable_model.attribution.boxes import CUSTOM, DETECTION_ARGUMENTS, BoxScore
from explainable_model.attribution.method import Method
from explainable_model.detection.candidates import COORDINATES, Candidates
from explainable_model.detection.family import Family, Tap, Thresholds, is_of
from explainable_model.detection.network import DetectionNetwork
from explainable_model.detection.table import DETECTORS
from explainable_model.errors import InputError, ModelError

DETECTION = "detection"
CUSTOM_THRESHOLDS = Thresholds(0.25, 0.5)
METHODS_OF_BOXES = ("gradcam", "hirescam", "layercam", "eigencam", "gradcam++")
SCORES = ("class", "objectness", *COORDINATES)


def wrap_detector(model: nn.Module, arguments: dict[str, Any]) -> tuple[DetectionNetwork, BoxScore]:
    """The network that returns boxes, and the target that explains them.

    Args:
        model: the detector.
        arguments: of ``ExplainableModel``; those of detection are taken out.

    Raises:
        ModelError: no family fits the network.
        ValueError: an argument that no detector takes.
    """
    model = inner_network(model)
    given = {name: arguments.pop(name) for name in DETECTION_ARGUMENTS if name in arguments}
    for name in ("target", "output", "frames", "forward"):
        if arguments.get(name) is not None:
            raise InputError(f"{name}= is of networks without boxes; leave it out with task='detection'.")
    if arguments.get("augment"):
        raise InputError("augment=True averages over copies of the image, which have other boxes; leave it out.")
    if arguments.get("smooth"):
        raise InputError("smooth= averages over noisy copies of the image, which have other boxes; leave it out.")
    family = _find_family(model, given.get("candidates"))
    own = family.thresholds(model)
    top_k = arguments.get("top_k")
    least = 1 if top_k is None else as_whole(top_k, "top_k", "how many boxes to explain", 1, MAX_TOP_K)
    most = given.get("max_boxes")
    if own.iou is None and given.get("iou_threshold") is not None:
        raise InputError(
            f"iou_threshold= suppresses duplicates, which {type(model).__name__} does not do; leave it out."
        )
    target = BoxScore(
        family=family.name,
        score=_choose(given.get("box_score", "class"), "box_score", SCORES),
        score_threshold=_fraction(given.get("score_threshold"), "score_threshold", own.score),
        iou_threshold=own.iou if own.iou is None else _fraction(given.get("iou_threshold"), "iou_threshold", own.iou),
        max_boxes=least if most is None else as_whole(most, "max_boxes", f"{least} or more boxes", least, MAX_TOP_K),
        limit=own.limit,
        by_box=as_flag(given.get("by_box"), "by_box"),
        region=None if given.get("region") is None else _choose(given["region"], "region", REGIONS),
    )
    return DetectionNetwork(model, family, target), target


def inner_network(model: nn.Module) -> nn.Module:
    """The network inside ``ultralytics.YOLO``, whose ``train`` starts a training."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(model).__mro__}
    inner = getattr(model, "model", None)
    return inner if "ultralytics.Model" in names and isinstance(inner, nn.Module) else model


def refuse_detection_arguments(arguments: dict[str, Any]) -> None:
    """Refuse arguments of detection where the task is another.

    Raises:
        InputError: there is one.
    """
    for name in DETECTION_ARGUMENTS:
        if name in arguments:
            raise InputError(f"{name}= is of detectors; add task='detection'.")


def _find_family(model: nn.Module, candidates: Any) -> Family:
    if candidates is not None:
        if not callable(candidates):
            raise InputError(
                f"candidates is {describe(candidates)}; expected a function (network, image) -> (scores, boxes, "
                "labels)."
            )
        return _custom_family(candidates)
    family = next((row for row in DETECTORS.values() if is_of(model, row)), None)
    if family is None:
        raise ModelError(
            f"{type(model).__name__} is of no family of detectors that is known: {', '.join(DETECTORS)}. If it is a "
            "classifier, leave out task='detection'. If it is a detector, say what its candidates are before it "
            "suppresses duplicates: candidates=lambda network, image: (scores, boxes, labels), with the logit of each "
            "candidate's class (N, M), its box x1, y1, x2, y2 in pixels (N, M, 4), and its class (N, M) int64."
        )
    return family


def _custom_family(function: Callable[[nn.Module, Tensor], Any]) -> Family:
    def candidates(network: Any, image: Tensor, tap: Tap) -> Candidates:
        found = function(network, image)
        scores, boxes, labels = _check_candidates(found, image)
        logits = scores.detach()
        return Candidates(
            scores=logits.sigmoid(),
            boxes=boxes.detach(),
            labels=labels,
            explained={"class": lambda chosen: scores.gather(1, chosen)},
            coordinates=lambda chosen: boxes.gather(1, chosen.unsqueeze(2).expand(-1, -1, 4)),
        )

    return Family(CUSTOM, "the user's own", (), candidates, lambda network: 0, lambda network: CUSTOM_THRESHOLDS)


def _check_candidates(found: Any, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    expected = (
        "expected scores (N, M) floating point, boxes (N, M, 4) x1, y1, x2, y2 in pixels, and labels (N, M) int64, for "
        f"the batch of {image.shape[0]}"
    )
    if not isinstance(found, (tuple, list)) or len(found) != 3 or not all(isinstance(t, Tensor) for t in found):
        raise ModelError(f"candidates returned {describe(found)}; {expected}.")
    scores, boxes, labels = found
    shapes = scores.ndim == 2 and boxes.shape == (*scores.shape, 4) and labels.shape == scores.shape
    if not shapes or not scores.is_floating_point() or labels.is_floating_point() or scores.shape[0] != image.shape[0]:
        got = ", ".join(f"{t.dtype} {tuple(t.shape)}" for t in (scores, boxes, labels))
        raise ModelError(f"candidates returned {got}; {expected}.")
    return scores, boxes, labels


def _choose(value: Any, name: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(known)}.")
    return str(value)


def _fraction(value: Any, name: str, own: float) -> float:
    if value is None:
        return own
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; expected a number from 0 to 1.")
    return float(value)


def wrap_for_task(task: Any, model: nn.Module, target_layer: Any, method: Method, arguments: Any) -> tuple[Any, Any]:
    """The network that is explained, and its target layers.

    Args:
        task: ``"detection"``, or ``None`` for every other task.
        model: the user's network.
        target_layer: as the user gave it.
        method: how the map is made.
        arguments: of ``ExplainableModel``; for a detector they get their target, and lose what is of detection.

    Raises:
        ModelError, ValueError: as ``wrap_detector``; or the task is unknown, or the method is not for boxes.
    """
    if task is None:
        refuse_detection_arguments(arguments)
        return model, target_layer
    if task != DETECTION:
        raise InputError(f"task is {task!r}; expected 'detection', or None for every other task, which is found.")
    if method.name not in METHODS_OF_BOXES:
        raise InputError(
            f"Method {method.name!r} does not explain boxes; expected one of {', '.join(METHODS_OF_BOXES)}."
        )
    wrapped, arguments["target"] = wrap_detector(model, arguments)
    wrapped.only_windows = target_layer is None
    if target_layer is None and len(wrapped.levels):
        target_layer = [f"{LEVELS}.{number}" for number in range(len(wrapped.levels))]
    return wrapped, target_layer
