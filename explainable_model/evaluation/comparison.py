"""``compare``: two networks or two files on the same photos, the photos where they differ most first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError
from explainable_model.evaluation.intervals import Interval, average
from explainable_model.evaluation.stability import correlate
from explainable_model.evaluation.subject import Subject, resize
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.open_explainer import open_explainer
from explainable_model.explainer.photos import is_single, iterate_photos, read_photo
from explainable_model.progress import ProgressLike, as_progress

WORST = 5


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two explainers on the same photos. Made by ``compare``; prints its figures and the worst photos.

    Attributes:
        rows: a dictionary for each photo: ``photo``, ``class_a``, ``class_b``, ``same_class``, ``correlation`` of the
            two maps of the class that the first one predicts, ``difference`` (the largest of the two maps).
        errors: why a photo was left out, by its name.
    """

    rows: Sequence[Mapping[str, Any]]
    errors: Mapping[str, str]

    @property
    def summary(self) -> dict[str, Interval]:
        """Share of photos with the same class, and mean correlation and largest difference of the maps."""
        keys = ("same_class", "correlation", "difference")
        return {key: average([float(row[key]) for row in self.rows]) for key in keys}

    @property
    def worst(self) -> list[Mapping[str, Any]]:
        """The photos of another class first, then those whose maps correlate least."""
        return sorted(self.rows, key=lambda row: (row["same_class"], row["correlation"]))

    def to_dict(self) -> dict[str, Any]:
        """Describe the comparison for JSON."""
        summary = {key: value._asdict() for key, value in self.summary.items()}
        return {"summary": summary, "worst": [dict(row) for row in self.worst], "errors": dict(self.errors)}

    def _count(self) -> str:
        left_out = f" ({len(self.errors)} left out)" if self.errors else ""
        return f"{len(self.rows)} photo{'' if len(self.rows) == 1 else 's'}{left_out}"

    def __str__(self) -> str:
        found = self.summary
        lines = [
            f"{self._count()}: the same class in {found['same_class'].mean:.1%}; maps correlate at "
            f"{found['correlation']}, and differ by at most {found['difference'].mean:.3f} in the mean.",
            "Worst photos:",
        ]
        for row in self.worst[:WORST]:
            classes = f"class {row['class_a']}" if row["same_class"] else f"class {row['class_a']} or {row['class_b']}"
            lines.append(f"  {row['photo']}: {classes}, correlation {row['correlation']:.3f}")
        return "\n".join(lines)

    __repr__ = __str__


def compare(
    a: Any,
    b: Any,
    photos: Any,
    *,
    progress: ProgressLike = None,
    **options: Any,
) -> Comparison:
    """Compare two networks or two artifacts: int8 with float32, an old release with a new one.

    Args:
        a, b: whatever ``explain`` takes; each prepares the photos in its own way.
        photos: whatever ``explain`` takes.
        progress: ``True`` for a bar, or a function called with (``"photos"``, photos done, photos in all).
        options: as of ``explain``, for both.

    Returns:
        ``Comparison``. Both explain the class that ``a`` predicts; a map of another size is resized to that of ``a``.

    Raises:
        InputError: no photo could be compared; another number of classes.
        LayerError, ModelError, ArtifactError, MissingRuntimeError: as ``explain``.

    Example:
        >>> print(compare("float32.onnx", "int8.onnx", "photos/"))     # doctest: +SKIP
    """
    first, second = (_open(model, options) for model in (a, b))
    listed = [photos] if is_single(photos) else list(iterate_photos(photos))
    tell = as_progress(progress)
    rows: list[dict[str, Any]] = []
    errors: dict[str, str] = {}
    for number, photo in enumerate(listed):
        try:
            opened = read_photo(photo, number, first.explainer.preprocess.window)
        except InputError as error:
            errors[str(photo if isinstance(photo, str | Path) else f"photo {number + 1}")] = str(error)
        else:
            rows.append({"photo": str(opened.path or opened.name), **_compare_photo(first, second, opened.picture)})
        if tell is not None:
            tell("photos", number + 1, len(listed))
    if not rows:
        raise InputError(f"No photo could be compared: {next(iter(errors.values()), 'there is none')}")
    return Comparison(rows, errors)


def _open(model: Any, options: dict[str, Any]) -> Subject:
    return Subject(model if isinstance(model, Explainer) else open_explainer(model, **options))


def _compare_photo(first: Subject, second: Subject, picture: Any) -> dict[str, Any]:
    image, other = first.prepare(picture), second.prepare(picture)
    class_a, cam_a = first.answer(image)
    class_b, cam_b = second.answer(other)
    if class_b != class_a:
        cam_b = second.explain(other, class_a)
    cam_b = resize(cam_b, (cam_a.shape[0], cam_a.shape[1]))
    return {
        "class_a": class_a,
        "class_b": class_b,
        "same_class": class_a == class_b,
        "correlation": 1.0 if np.array_equal(cam_a, cam_b) else correlate(cam_a, cam_b),
        "difference": float(np.abs(cam_a - cam_b).max()),
    }
