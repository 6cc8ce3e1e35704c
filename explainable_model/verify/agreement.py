"""How far an artifact in less precision agrees with the one in full precision, class by class. Needs no torch."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from explainable_model.artifact.runner import Array, Runner
from explainable_model.artifact.tolerances import AGREEMENTS
from explainable_model.errors import AgreementWarning, VerificationError
from explainable_model.explanation import INDEPENDENT_KINDS, PREDICTED, PRESENT, OutputKind, Progress, to_probabilities
from explainable_model.verify.parity import correlation

NAMED_CLASSES = 10
SAME_CLASS, SAME_NUMBER = "the same class", "nearly the same score"
NEAR = 0.1  # one number that differs by less counts as the same: of the range of the photos' scores


@dataclass(frozen=True)
class Agreement:
    """How the answers of two artifacts to the same images agree.

    Attributes:
        images: number of compared images.
        photos: whether the images are the user's; made up otherwise.
        classes: share of images whose predicted class is the same; where each class is present or absent by itself,
            the mean share of the classes present in either answer that are present in both. Of one number that is no
            probability, the share of images whose number is nearly the same.
        correlation: mean correlation of the two maps of the class that full precision predicts.
        min_correlation: smallest of these correlations.
        by_class: the same for the images of each predicted or present class: ``class_idx``, ``images``, ``classes``,
            ``correlation``.
    """

    images: int
    photos: bool
    classes: float
    correlation: float
    min_correlation: float
    by_class: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON stores it."""
        return asdict(self)


def measure_agreement(
    full: Runner,
    reduced: Runner,
    images: Sequence[Array],
    class_idx_shape: Sequence[int],
    *,
    photos: bool = True,
    kind: OutputKind | None = None,
    threshold: float = PRESENT,
    progress: Progress | None = None,
) -> Agreement:
    """Compare the predicted class of each image, and the two maps of the class that ``full`` predicts.

    Where each class is present or absent by itself, the present classes are compared: a network with one logit predicts
    class 0 of every image. One number that is no probability is the same where it differs by less than ``NEAR`` of the
    range of the scores, or, of made-up images and of a single one, of the largest.

    Args:
        full: the artifact in full precision.
        reduced: the artifact in less precision.
        images: one batch per image, as the artifact takes it; the first image of a batch counts.
        class_idx_shape: shape of the class index for such a batch.
        photos: whether the images are the user's.
        kind: of the output.
        threshold: smallest probability of a class that is present.
        progress: called after each image.
    """
    ask_for_predicted = np.full(class_idx_shape, PREDICTED, np.int64)
    compared: list[tuple[float, dict[int, float], float]] = []  # share, share by class, correlation of the maps
    numbers: list[tuple[float, float]] = []
    for number, image in enumerate(images, 1):
        logits, class_idx, full_cam = full(image, ask_for_predicted)[:3]
        other_logits, other_idx = reduced(image, ask_for_predicted)[:2]
        reduced_cam = reduced(image, class_idx)[2][0]
        similarity = correlation(reduced_cam, full_cam[0]) if np.isfinite(reduced_cam).all() else 0.0
        if kind in INDEPENDENT_KINDS:
            found, other = (_find_present(each[0], kind, threshold) for each in (logits, other_logits))
            share = len(found & other) / len(found | other) if found | other else 1.0
            compared.append((share, {index: float(index in other) for index in found}, similarity))
        else:
            share = float(np.array_equal(other_idx[0], class_idx[0]))
            compared.append((share, {int(np.ravel(class_idx[0])[0]): share}, similarity))
            if is_number(kind, logits.shape[1] if logits.ndim > 1 else 1):
                numbers.append((float(np.abs(other_logits[0] - logits[0]).mean()), float(logits[0].mean())))
        if progress is not None:
            progress("comparing", number, len(images))
    return _summarize(_compare_numbers(compared, numbers, photos) if numbers else compared, photos)


def is_number(kind: OutputKind | None, channels: int | None) -> bool:
    """Whether a network answers with one number that is no probability, and so with the same class for every image."""
    return channels == 1 and kind in (None, "scores")


def _compare_numbers(
    compared: Sequence[tuple[float, dict[int, float], float]], numbers: Sequence[tuple[float, float]], photos: bool
) -> list[tuple[float, dict[int, float], float]]:
    values = [value for _, value in numbers]
    spread = max(values) - min(values)
    size = spread if photos and spread > 0 else max(map(abs, values))  # an age of 20 to 60, and not of 0 to 60
    near = [float(difference <= NEAR * size) for difference, _ in numbers]
    return [
        (share * same, {index: each * same for index, each in shares.items()}, similarity)
        for (share, shares, similarity), same in zip(compared, near, strict=True)
    ]


def _summarize(compared: Sequence[tuple[float, dict[int, float], float]], photos: bool) -> Agreement:
    rows: dict[int, list[tuple[float, float]]] = {}
    for _, shares, similarity in compared:
        for index, share in shares.items():
            rows.setdefault(index, []).append((share, similarity))
    return Agreement(
        images=len(compared),
        photos=photos,
        **_average([(share, similarity) for share, _, similarity in compared]),
        min_correlation=min(similarity for _, _, similarity in compared),
        by_class=[
            {"class_idx": index, "images": len(of_class), **_average(of_class)}
            for index, of_class in sorted(rows.items())
        ],
    )


def _find_present(logits: Array, kind: OutputKind | None, threshold: float) -> set[int]:
    """The classes whose probability reaches the threshold; of an output of pixels, in any pixel."""
    probabilities = to_probabilities(logits[None], kind)[0]
    present = (probabilities >= threshold).reshape(len(np.atleast_1d(logits)), -1).any(1)
    return set(np.flatnonzero(present).tolist())


def _average(rows: Sequence[tuple[float, float]]) -> dict[str, float]:
    same_class, similarity = zip(*rows, strict=True)
    return {"classes": float(np.mean(same_class)), "correlation": float(np.mean(similarity))}


def require_agreement(
    agreement: Agreement, precision: str, class_names: Sequence[str] | None = None, same: str = SAME_CLASS
) -> None:
    """Refuse an artifact that answers differently, and warn of one that often predicts another class.

    Args:
        agreement: of the artifact with the one in float32.
        precision: key of ``AGREEMENTS``.
        class_names: one name per class, if known.
        same: what the share counts, ``SAME_CLASS`` or ``SAME_NUMBER``.

    Raises:
        VerificationError: the share of equal classes or the correlation is below the bound in ``AGREEMENTS``.
    """
    bound = AGREEMENTS[precision]
    images = "photos" if agreement.photos else "made-up images (give photos with calibration=)"
    figures = f"In {precision} the network predicts {same} for {agreement.classes:.0%} of {agreement.images} "
    figures += f"{images}{_name_lost_classes(agreement, class_names)}"
    advice = "Calibrate with more photos of the kind that the network will see, explain a later layer, or export in "
    advice += "another precision."
    if agreement.classes < bound.classes or agreement.correlation < bound.correlation:
        raise VerificationError(
            f"{figures}, and its maps correlate by {agreement.correlation:.3f} with those in float32; expected at "
            f"least {bound.classes:.0%} and {bound.correlation}. Nothing was written. {advice}"
        )
    if agreement.classes < bound.usual_classes:
        warnings.warn(f"{figures}; {bound.usual_classes:.0%} are usual. {advice}", AgreementWarning, stacklevel=2)


def _name_lost_classes(agreement: Agreement, class_names: Sequence[str] | None) -> str:
    """The classes that the artifact never predicts where float32 does, for the middle of a sentence."""
    lost = [row["class_idx"] for row in agreement.by_class if row["classes"] == 0]
    names = [class_names[index] if class_names is not None else str(index) for index in lost]
    if not names:
        return ""
    more = f" and {len(names) - NAMED_CLASSES} more" if len(names) > NAMED_CLASSES else ""
    return f" (for none of those of class {', '.join(names[:NAMED_CLASSES])}{more})"
