"""How far an artifact of less precision says the same as one of full precision, class by class. Needs no torch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from explainable_model.artifact.runner import Array, Runner
from explainable_model.artifact.tolerances import AGREEMENTS
from explainable_model.errors import VerificationError
from explainable_model.explanation import PREDICTED
from explainable_model.verify.parity import correlation

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many images are done, and how many there are."""


@dataclass(frozen=True)
class Agreement:
    """The answers of two artifacts to the same images.

    Attributes:
        images: how many were compared.
        photos: whether they were the user's, or made up.
        classes: share of images whose predicted class is the same.
        correlation: mean correlation of the two maps of the class that full precision predicts.
        worst: smallest of these correlations.
        by_class: the same for the images of each predicted class: ``class_idx``, ``images``, ``classes``,
            ``correlation``.
    """

    images: int
    photos: bool
    classes: float
    correlation: float
    worst: float
    by_class: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_agreement(
    full: Runner,
    reduced: Runner,
    images: Sequence[Array],
    class_idx_shape: Sequence[int],
    *,
    photos: bool = True,
    progress: Progress | None = None,
) -> Agreement:
    """Ask both for the predicted class of each image, and for the map of the class that ``full`` predicts.

    Args:
        full: the artifact in full precision.
        reduced: the other.
        images: one batch each, as the artifact takes it, of which the first image counts.
        class_idx_shape: of the class index for such a batch.
        photos: whether the images are the user's.
        progress: told how many images are done.
    """
    predicted = np.full(class_idx_shape, PREDICTED, np.int64)
    rows: dict[int, list[tuple[bool, float]]] = {}
    for number, image in enumerate(images, 1):
        _, wanted, cam = full(image, predicted)[:3]
        same = np.array_equal(reduced(image, predicted)[1][0], wanted[0])
        found = reduced(image, wanted)[2]
        alike = correlation(found[0], cam[0]) if np.isfinite(found[0]).all() else 0.0
        rows.setdefault(int(np.ravel(wanted[0])[0]), []).append((same, alike))
        if progress is not None:
            progress("comparing", number, len(images))
    every = [row for found in rows.values() for row in found]
    by_class = [{"class_idx": each, "images": len(found), **_means(found)} for each, found in sorted(rows.items())]
    return Agreement(len(every), photos, **_means(every), worst=min(alike for _, alike in every), by_class=by_class)


def _means(rows: Sequence[tuple[bool, float]]) -> dict[str, float]:
    same, alike = zip(*rows, strict=True)
    return {"classes": float(np.mean(same)), "correlation": float(np.mean(alike))}


def require_agreement(agreement: Agreement, precision: str) -> None:
    """Refuse an artifact that says something else.

    Raises:
        VerificationError: the share of equal classes or the correlation is below what ``tolerances.py`` asks.
    """
    bound = AGREEMENTS[precision]
    if agreement.classes >= bound.classes and agreement.correlation >= bound.correlation:
        return
    shown = "photos" if agreement.photos else "made-up images (give photos with calibration=)"
    raise VerificationError(
        f"In {precision} the network predicts the same class for {agreement.classes:.0%} of {agreement.images} "
        f"{shown}, and its maps correlate by {agreement.correlation:.3f} with those in float32; expected at least "
        f"{bound.classes:.0%} and {bound.correlation}. Nothing was written. Calibrate with more photos of the kind "
        "that it will see, explain a later layer, or export in another precision."
    )
