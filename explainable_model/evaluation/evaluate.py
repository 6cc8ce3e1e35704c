"""``evaluate``: how faithful, stable and class-specific the maps of a network or of a deployed file are."""

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError
from explainable_model.evaluation.evaluation import Evaluation
from explainable_model.evaluation.masks import Masks, find_mask
from explainable_model.evaluation.measures import MEASURES, USUAL, Case, Measure
from explainable_model.evaluation.mosaics import CELLS, MosaicMaker, Photo, measure_mosaic
from explainable_model.evaluation.rows import RowFile, digest_arrays
from explainable_model.evaluation.subject import Explanations, Subject, explain_by_center, explain_by_chance
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.open_explainer import open_explainer
from explainable_model.explainer.photos import OpenedPhoto, is_single, iterate_photos, read_photo
from explainable_model.explanation import Progress
from explainable_model.progress import ProgressLike, as_progress

UNNAMED: tuple[Any, ...] = (None,)  # whatever the explainer takes by itself
RANDOM, CENTER = "random map", "center map"


@dataclass(frozen=True)
class Candidate:
    """What makes maps, under the name of its row.

    Attributes:
        label: ``gradcam at layer4``, ``random map``.
        subject: predicts.
        explain: the map of a class of an image; that of the subject, or a baseline.
        explain_randomized: see ``Case``.
    """

    label: str
    subject: Subject
    explain: Explanations
    explain_randomized: Explanations | None = None


def evaluate(
    model: Any,
    photos: Any,
    *,
    measures: Sequence[str] | None = None,
    masks: Masks = None,
    methods: Sequence[str] | None = None,
    layers: Sequence[Any] | None = None,
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
            is inside.
        methods, layers: each pair of them is measured; for networks alone.
        seed: of everything that is drawn. The same seed gives the same values.
        rows: a file of JSON lines that keeps each photo's values; a second run with the same arguments continues it.
        progress: ``True`` for a bar, or a function called with (``"photos"``, photos done, photos in all).
        options: as of ``explain``: ``preprocess``, ``class_names``, ``target_layer``, ``method`` and others.

    Returns:
        ``Evaluation``, which prints as a table. A photo or a mask that cannot be used is listed in its ``errors``.

    Raises:
        InputError: an unknown measure; one that needs a network, masks or more photos than there are; no photo that
            can be used; or ``rows`` of another evaluation.
        LayerError, ModelError, ArtifactError, MissingRuntimeError: as ``explain``.

    Example:
        >>> print(evaluate("lite0.onnx", "photos/"))                   # doctest: +SKIP
    """
    chosen = choose_measures(measures, has_masks=masks is not None)
    candidates = list(_open_candidates(model, methods, layers, chosen, seed, options))
    listed = [photos] if is_single(photos) else list(iterate_photos(photos))
    _check_count(chosen, len(listed))
    names = [row.name for row in chosen]
    fingerprint = {
        "model": _identify(model, candidates),
        "measures": names,
        "seed": seed,
        "photos": len(listed),
        "masks": None if masks is None else str(masks) if isinstance(masks, str | Path) else "given",
        "options": {name: repr(value) for name, value in options.items()},
    }
    errors: dict[str, str] = {}
    with closing(RowFile(None if rows is None else Path(rows), fingerprint if rows is not None else {})) as file:
        _measure_all(candidates, listed, masks, chosen, file, errors, seed, as_progress(progress))
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


def _open_candidates(
    model: Any,
    methods: Sequence[str] | None,
    layers: Sequence[Any] | None,
    measures: Sequence[Measure],
    seed: int,
    options: dict[str, Any],
) -> Iterator[Candidate]:
    """Open every pair of method and layer, then the baselines."""
    from_network = any(row.needs == "network" for row in measures)
    first: Subject | None = None
    pairs = product(layers or UNNAMED, methods or UNNAMED)
    for layer, method in pairs:
        asked = {**options, **({} if method is None else {"method": method})}
        asked.update({} if layer is None else {"target_layer": layer})
        explainer = model if isinstance(model, Explainer) and not asked else open_explainer(model, **asked)
        randomized = _open_randomized(model, asked, seed) if from_network else None
        subject = Subject(explainer)
        first = first or subject
        label = explainer.method if layer is None else f"{explainer.method} at {layer}"
        yield Candidate(label, subject, subject.explain, None if randomized is None else randomized.explain)
    assert first is not None
    chance = explain_by_chance(seed)
    yield Candidate(RANDOM, first, chance, chance)
    yield Candidate(CENTER, first, explain_by_center, explain_by_center)


def _open_randomized(model: Any, options: dict[str, Any], seed: int) -> Subject:
    """Open a copy of the network with random weights.

    Raises:
        InputError: there is an artifact instead of a network.
    """
    from dataclasses import replace

    from torch import nn

    from explainable_model.evaluation.randomization import randomize_network
    from explainable_model.networks.named import NamedModel

    if not isinstance(model, nn.Module | NamedModel):
        possible = ", ".join(row.name for row in MEASURES.values() if row.needs != "network")
        raise InputError(
            f"randomization changes the weights of a network, and model is {type(model).__name__}; expected an "
            f"nn.Module, an ExplainableModel or a NamedModel. Measures for any model: {possible}."
        )
    if isinstance(model, NamedModel):
        return Subject(open_explainer(replace(model, model=randomize_network(model.model, seed=seed)), **options))
    return Subject(open_explainer(randomize_network(model, seed=seed), **options))


def _check_count(measures: Sequence[Measure], photos: int) -> None:
    mosaic = [row.name for row in measures if row.needs == "mosaic"]
    if len(mosaic) == len(measures) and photos < CELLS:
        raise InputError(f"{', '.join(mosaic)} join {CELLS} photos of different classes; got {photos} photo(s).")


def _measure_all(
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
    subject = candidates[0].subject
    names = Counter(Path(photo).name for photo in photos if isinstance(photo, str | Path))
    for number, photo in enumerate(photos):
        try:
            opened = read_photo(photo, number, subject.explainer.preprocess.window)
            label = str(opened.path) if names[opened.name] > 1 else opened.name  # of a tree with a folder per class
            mask = find_mask(masks, opened, subject.explainer.preprocess, label)
        except InputError as error:
            errors[str(photo if isinstance(photo, str | Path) else f"photo {number + 1}")] = str(error)
        else:
            image = subject.prepare(opened.picture)
            key = _key(opened, number)
            class_idx = _measure_photo(candidates, key, label, image, mask, measures, file, seed)
            group = maker.add(Photo(label, image, class_idx)) if maker is not None else None
            if group is not None:
                _measure_group(candidates, group, measures, file)
        if progress is not None:
            progress("photos", number + 1, len(photos))


def _key(photo: OpenedPhoto, number: int) -> str:
    return f"{number}:{photo.path or photo.name}"


def _measure_photo(
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
    scores = candidates[0].subject.predict(image[None])[0]
    class_idx = int(scores.argmax()) if len(scores) > 1 else candidates[0].subject.answer(image)[0]
    drawn = np.random.default_rng([seed, zlib.crc32(key.encode())])
    others = [other for other in range(len(scores)) if other != class_idx]
    other = int(drawn.choice(others)) if others else None
    content = digest_arrays(np.asarray(image), mask)
    for candidate in candidates:
        row = f"{key}|{candidate.label}"
        if file.use(row, content):
            continue
        case = Case(
            image,
            class_idx,
            candidate.explain(image, class_idx),
            candidate.subject.score(class_idx),
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


def _identify(model: Any, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What the values depend on: the file's checksum, or the weights; and the methods."""
    labels = [candidate.label for candidate in candidates]
    metadata = getattr(model, "metadata", None)
    if metadata is not None:
        return {"checksum": metadata.checksum or str(model.path), "labels": labels}
    if isinstance(model, str | Path) and Path(model).is_file():
        return {"sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest(), "labels": labels}
    network = getattr(model, "model", model)
    if hasattr(network, "state_dict"):
        digest = hashlib.sha256()
        for name, weight in network.state_dict().items():
            digest.update(name.encode() + weight.detach().cpu().float().numpy().tobytes())
        return {"weights": digest.hexdigest(), "labels": labels}
    return {"name": str(model), "labels": labels}
