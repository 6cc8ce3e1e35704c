"""``explainable-model compare``: two artifacts on the same photos."""

import argparse

from explainable_model.cli.console import Console
from explainable_model.cli.evaluate import expand_photos
from explainable_model.cli.outcome import FAILED, Outcome


def compare(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Compare the classes and the maps; a photo that cannot be read does not stop the others."""
    from explainable_model.evaluation import compare as compare_files
    from explainable_model.explainer.explainer import artifact_explainer

    a, b = (artifact_explainer(path, trusted=arguments.trusted) for path in (arguments.a, arguments.b))
    with console.track_progress() as progress:
        found = compare_files(a, b, expand_photos(arguments.photos), progress=progress)
    errors = list(found.errors.values())
    return Outcome(str(found), found.to_dict(), FAILED if errors else 0, errors)
