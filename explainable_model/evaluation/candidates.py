"""What an evaluation measures: maps of methods at layers, and the maps that know nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError
from explainable_model.evaluation.curves import Image
from explainable_model.evaluation.measures import MEASURES, Measure
from explainable_model.evaluation.subject import Explanations, Subject, explain_by_center, explain_by_chance
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.open_explainer import open_explainer
from explainable_model.runtime import Session

UNNAMED: tuple[Any, ...] = (None,)  # whatever the explainer takes by itself
RANDOM, CENTER = "random map", "center map"
AGREEMENT = 0.01  # of the scores of a network and of its file


@dataclass(frozen=True)
class Candidate:
    """What makes maps, under the name of its row.

    Attributes:
        label: ``gradcam at layer4``, ``random map``.
        explain: the map of a class of an image; that of the subject, or a baseline.
        explain_randomized: see ``Case``.
    """

    label: str
    explain: Explanations
    explain_randomized: Explanations | None = None


def open_candidates(
    model: Any,
    methods: Sequence[str] | None,
    layers: Sequence[Any] | None,
    measures: Sequence[Measure],
    seed: int,
    options: dict[str, Any],
) -> tuple[Subject, list[Candidate]]:
    """Open every pair of method and layer, then the maps that know nothing.

    Returns:
        What predicts, and what explains.
    """
    _check_list("methods", methods)
    _check_list("layers", layers)
    from_network = any(row.needs == "network" for row in measures)
    random_model = _randomize(model, seed) if from_network else None
    subjects: list[Subject] = []
    candidates = []
    for layer, method in product(layers or UNNAMED, methods or UNNAMED):
        asked = {**options, **({} if method is None else {"method": method})}
        asked.update({} if layer is None else {"target_layer": layer})
        explainer = model if isinstance(model, Explainer) and not asked else open_explainer(model, **asked)
        randomized = Subject(open_explainer(random_model, **asked)) if from_network else None
        subjects.append(Subject(explainer))
        label = explainer.method if layer is None else f"{explainer.method} at {layer}"
        candidates.append(Candidate(label, subjects[-1].explain, None if randomized is None else randomized.explain))
    chance = explain_by_chance(seed)
    return subjects[0], [
        *candidates,
        Candidate(RANDOM, chance, chance),
        Candidate(CENTER, explain_by_center, explain_by_center),
    ]


def _check_list(argument: str, values: Any) -> None:
    """Refuse a text, whose letters would be the values, and a list of nothing.

    Raises:
        InputError: no list, or an empty one.
    """
    if values is not None and (isinstance(values, str) or not values):
        raise InputError(f"{argument} is {values!r}; expected a list, or None for the default.")


def _randomize(model: Any, seed: int) -> Any:
    """Copy the network with random weights.

    Raises:
        InputError: there is an artifact instead of a network.
    """
    if isinstance(model, str | Path | Session | Explainer):
        raise _no_network(model)  # before torch is imported, which an artifact does not need
    from torch import nn

    from explainable_model.evaluation.randomization import randomize_network
    from explainable_model.networks.named import NamedModel

    if not isinstance(model, nn.Module | NamedModel):
        raise _no_network(model)
    if isinstance(model, NamedModel):
        return replace(model, model=randomize_network(model.model, seed=seed))
    return randomize_network(model, seed=seed)


def _no_network(model: Any) -> InputError:
    needed = ", ".join(row.name for row in MEASURES.values() if row.needs == "network")
    possible = ", ".join(row.name for row in MEASURES.values() if row.needs != "network")
    given = f"{str(model)!r}" if isinstance(model, str | Path) else f"a {type(model).__name__}"
    return InputError(
        f"{needed} changes the weights of a network, and model is {given}; expected an nn.Module, an ExplainableModel "
        f"or a NamedModel. Measures for any model: {possible}."
    )


def open_predictor(predictor: Any, subject: Subject) -> Subject:
    """Open the file that predicts in place of a network.

    Args:
        predictor: an artifact of the same network; ``None`` for none.
        subject: the network.

    Returns:
        What predicts.
    """
    return (
        subject if predictor is None else Subject(replace(subject.explainer, predict=open_explainer(predictor).predict))
    )


def check_predictor(predictor: Subject, subject: Subject, image: Image) -> None:
    """Compare the scores of a file with those of the network for which it predicts.

    Raises:
        InputError: they are not the same.
    """
    if predictor is subject:
        return
    found, want = predictor.predict(image[None]), subject.predict(image[None])
    if found.shape != want.shape or not np.allclose(found, want, atol=AGREEMENT):
        apart = "" if found.shape != want.shape else f", by up to {np.abs(found - want).max():.3g}"
        raise InputError(
            f"predictor gives other scores than the network{apart}; expected an artifact of the same network, which "
            "takes the same prepared images."
        )


def identify(model: Any, candidates: Sequence[Candidate]) -> dict[str, Any]:
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
