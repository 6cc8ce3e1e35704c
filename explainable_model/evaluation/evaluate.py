"""``evaluate``: how faithful, stable and class-specific the maps of a network or of a deployed file are."""

import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError
from explainable_model.evaluation.candidates import (
    Candidate,
    check_predictor,
    identify,
    open_candidates,
    open_predictor,
)
from explainable_model.evaluation.evaluation import Evaluation
from explainable_model.evaluation.masks import Masks, find_mask
from explainable_model.evaluation.measures import MEASURES, USUAL, Case, Measure
from explainable_model.evaluation.mosaics import CELLS, MosaicMaker, Photo, measure_mosaic
from explainable_model.evaluation.rows import RowFile, digest_arrays
from explainable_model.evaluation.subject import Subject, remember_scores
from explainable_model.explainer.photos import OpenedPhoto, is_single, iterate_photos, read_photo
from explainable_model.explanation import Progress
from explainable_model.progress import ProgressLike, as_progress


def evaluate(
    model: Any,
    photos: Any,
    *,
    measures: Sequence[str] | None = None,
    masks: Masks = None,
    methods: Sequence[str] | None = None,
    layers: Sequence[Any] | None = None,
    predictor: Any = None,
    seed: int = 0,
    rows: str | Path | None = None,
    progress: ProgressLike = None,
    **options: Any,
) -> Evaluation:
    """Measure the maps of a network or of an artifact on photos.

    An artifact is measured in its own runtime: what is deployed is what is measured. Beside it stand a random map and a
    Gaussian in the middle of the image, which know neither the photo nor the network.

    Args:
        model: whatever ``explain`` takes: a network, its name, the path of an artifact, a session.
        photos: whatever ``explain`` takes: paths, a folder, a pattern, pictures. One photo is in memory at a time, and
            four for a mosaic.
        measures: keys of ``MEASURES``; ``None`` for the usual ones, and those of masks where there are masks.
        masks: where the class is to be seen: a folder of pictures or ``.npy`` files with the photos' stems, arrays by
            the photos' names or stems, or a function of the photo's name. Each has its photo's size; any value but zero
            is inside, and in a JPEG or WebP file any value from 128 on.
        methods, layers: each pair of them is measured; for networks alone.
        predictor: an artifact of the network, or its path, which predicts the changed images in its place: ONNX Runtime
            takes a third of eager PyTorch's time.
        seed: of everything that is drawn. The same seed gives the same values.
        rows: a file of JSON lines that keeps each photo's values; a second run with the same arguments continues it.
        progress: ``True`` for a bar, or a function called with (``"photos"``, photos done, photos in all).
        options: as of ``explain``: ``preprocess``, ``class_names``, ``target_layer``, ``method`` and others.

    Returns:
        ``Evaluation``, which prints as a table. A photo or a mask that cannot be used is listed in its ``errors``.

    Raises:
        InputError: an unknown measure; one that needs a network, masks or more photos than there are; no photo that
            can be used; a ``predictor`` with other scores than the network; ``rows`` of another evaluation; or a
            ``seed`` below 0.
        LayerError, ModelError, ArtifactError, MissingRuntimeError: as ``explain``.

    Example:
        >>> print(evaluate("lite0.onnx", "photos/"))                   # doctest: +SKIP
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected an integer of at least 0.")
    chosen = choose_measures(measures, has_masks=masks is not None)
    subject, candidates = open_candidates(model, methods, layers, chosen, seed, options)
    scorer = open_predictor(predictor, subject)
    listed = [photos] if is_single(photos) else list(iterate_photos(photos))
    _check_count(chosen, len(listed))
    names = [row.name for row in chosen]
    fingerprint = {
        "model": identify(model, candidates),
        "measures": names,
        "seed": seed,
        "photos": len(listed),
        "masks": None if masks is None else str(masks) if isinstance(masks, str | Path) else "given",
        "options": {name: repr(value) for name, value in options.items()},
    }
    if predictor is not None:
        fingerprint["predictor"] = identify(predictor, ())
    errors: dict[str, str] = {}
    with closing(RowFile(None if rows is None else Path(rows), fingerprint if rows is not None else {})) as file:
        _measure_all(subject, scorer, candidates, listed, masks, chosen, file, errors, seed, as_progress(progress))
        kept = list(file.used.values())
    if not any(row["values"] for row in kept):
        raise InputError(f"No photo could be measured: {next(iter(errors.values()), 'there is none')}")
    return Evaluation(kept, names, [candidate.label for candidate in candidates], errors, seed)


def choose_measures(names: Sequence[str] | None, *, has_masks: bool) -> list[Measure]:
    """Look up measures by name.

    Raises:
        InputError: an unknown name, or a measure that needs masks where there are none.
    """
    if names is None:
        of_masks = [row.name for row in MEASURES.values() if row.needs == "mask"]
        names = [*USUAL, *(of_masks if has_masks else [])]
    if isinstance(names, str) or not names:
        raise InputError(f"measures is {names!r}; expected a list of keys of MEASURES: {', '.join(MEASURES)}.")
    unknown = [name for name in names if name not in MEASURES]
    if unknown:
        raise InputError(f"There is no measure {unknown[0]!r}; expected some of {', '.join(MEASURES)}.")
    rows = [MEASURES[name] for name in dict.fromkeys(names)]
    blind = [row.name for row in rows if row.needs == "mask" and not has_masks]
    if blind:
        raise InputError(f"{', '.join(blind)} compare maps with masks; pass masks=, for example a folder of them.")
    return rows


def _check_count(measures: Sequence[Measure], photos: int) -> None:
    mosaic = [row.name for row in measures if row.needs == "mosaic"]
    if len(mosaic) == len(measures) and photos < CELLS:
        raise InputError(f"{', '.join(mosaic)} join {CELLS} photos of different classes; got {photos} photo(s).")


def _measure_all(
    subject: Subject,
    predictor: Subject,
    candidates: Sequence[Candidate],
    photos: Sequence[Any],
    masks: Masks,
    measures: Sequence[Measure],
    file: RowFile,
    errors: dict[str, str],
    seed: int,
    progress: Progress | None,
) -> None:
    maker = MosaicMaker() if any(row.needs == "mosaic" for row in measures) else None
    names = Counter(Path(photo).name for photo in photos if isinstance(photo, str | Path))
    is_checked = False
    for number, photo in enumerate(photos):
        try:
            opened = read_photo(photo, number, subject.explainer.preprocess.window)
            label = str(opened.path) if names[opened.name] > 1 else opened.name  # of a tree with a folder per class
            mask = find_mask(masks, opened, subject.explainer.preprocess, label)
        except InputError as error:
            errors[str(photo if isinstance(photo, str | Path) else f"photo {number + 1}")] = str(error)
        else:
            image = subject.prepare(opened.picture)
            if not is_checked:
                check_predictor(predictor, subject, image)
                is_checked = True
            key = _key(opened, number)
            class_idx = _measure_photo(subject, predictor, candidates, key, label, image, mask, measures, file, seed)
            group = maker.add(Photo(label, image, class_idx)) if maker is not None else None
            if group is not None:
                _measure_group(candidates, group, measures, file)
        if progress is not None:
            progress("photos", number + 1, len(photos))


def _key(photo: OpenedPhoto, number: int) -> str:
    return f"{number}:{photo.path or photo.name}"


def _measure_photo(
    subject: Subject,
    predictor: Subject,
    candidates: Sequence[Candidate],
    key: str,
    name: str,
    image: Any,
    mask: Any,
    measures: Sequence[Measure],
    file: RowFile,
    seed: int,
) -> int:
    """Measure one photo by every candidate; the predicted class."""
    scores = subject.predict(image[None])[0]
    class_idx = int(scores.argmax()) if len(scores) > 1 else subject.answer(image)[0]
    drawn = np.random.default_rng([seed, zlib.crc32(key.encode())])
    others = [other for other in range(len(scores)) if other != class_idx]
    other = int(drawn.choice(others)) if others else None
    content = digest_arrays(np.asarray(image), mask)
    predict = remember_scores(predictor.score(class_idx))
    for candidate in candidates:
        row = f"{key}|{candidate.label}"
        if file.use(row, content):
            continue
        case = Case(
            image,
            class_idx,
            candidate.explain(image, class_idx),
            predict,
            candidate.explain,
            other,
            mask,
            candidate.explain_randomized,
            seed,
        )
        values = {measure.name: measure.run(case) for measure in measures if measure.run is not None}
        file.add(row, content, {"photo": name, "candidate": candidate.label, "class_idx": class_idx, "values": values})
    return class_idx


def _measure_group(
    candidates: Sequence[Candidate], group: Sequence[Photo], measures: Sequence[Measure], file: RowFile
) -> None:
    wanted = [row.name for row in measures if row.needs == "mosaic"]
    key = "mosaic:" + "|".join(photo.name for photo in group)
    content = digest_arrays(*(np.asarray(photo.image) for photo in group))
    for candidate in candidates:
        row = f"{key}|{candidate.label}"
        if not file.use(row, content):
            found = measure_mosaic(group, candidate.explain)
            values = {name: found[name] for name in wanted}
            file.add(row, content, {"photo": key, "candidate": candidate.label, "values": values})
