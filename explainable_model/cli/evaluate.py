"""``explainable-model evaluate``: measure the maps of a network or of an artifact."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.network import load_network, refuse_without_model
from explainable_model.cli.outcome import FAILED, Outcome

if TYPE_CHECKING:
    from explainable_model.evaluation import Evaluation

OF_NETWORKS = (
    *("checkpoint", "pretrained", "classes", "output_kind", "presence", "methods", "layers", "predictor"),
    *("size", "mean", "std", "resize", "preprocess", "class_names"),
)


def evaluate(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Measure the maps on photos; what cannot be read does not stop the others."""
    from explainable_model.evaluation import evaluate as measure
    from explainable_model.evaluation.evaluation import check_ending

    if arguments.out is not None:
        check_ending(arguments.out)
    if arguments.artifact is not None:
        refuse_without_model(arguments, *OF_NETWORKS, reason="an artifact has that inside")
    with console.track_progress() as progress:
        found = measure(
            _open(arguments, console),
            expand_photos(arguments.photos),
            measures=arguments.measures,
            masks=arguments.masks,
            methods=arguments.methods,
            layers=arguments.layers,
            predictor=arguments.predictor,
            seed=arguments.seed,
            rows=arguments.rows,
            progress=progress,
        )
    if arguments.out is not None:
        found.save(arguments.out)
    return _describe(found, arguments.out)


def expand_photos(arguments: list[Path]) -> list[Path]:
    """List the photos that the arguments name: files, folders with their subfolders, and patterns.

    Raises:
        InputError: a folder or a pattern without a photo.
    """
    from explainable_model.explainer.photos import is_single, list_files

    return [photo for path in arguments for photo in ([path] if is_single(path) else list_files(path))]


def _open(arguments: argparse.Namespace, console: Console) -> Any:
    from explainable_model.runtime import load

    if arguments.artifact is not None:
        return load(arguments.artifact, trusted=arguments.trusted)
    return load_network(arguments, console)


def _describe(found: "Evaluation", out: Path | None) -> Outcome:
    text = str(found) if out is None else f"{found}\n-> {out}"
    errors = list(found.errors.values())
    return Outcome(text, found.to_dict(), FAILED if errors else 0, errors)
