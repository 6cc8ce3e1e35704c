"""``explainable-model demo``: explain photos with real weights in three formats."""

import argparse
from typing import TYPE_CHECKING

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import FAILED, Outcome
from explainable_model.explainer.detection_defaults import DETECTION

if TYPE_CHECKING:
    from explainable_model.demo import DemoReport
    from explainable_model.demo.boxes import BoxDemoReport


def demo(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Explain three photos with trained weights, eagerly and in three formats."""
    from explainable_model.artifact.tolerances import TOLERANCES
    from explainable_model.demo import run_demo
    from explainable_model.demo.boxes import run_box_demo
    from explainable_model.imaging.overlay import COLORMAP

    report: BoxDemoReport | DemoReport
    style = {"alpha": arguments.alpha, "say": console.say}
    if arguments.task == DETECTION:
        report = run_box_demo(arguments.out, colormap=arguments.colormap, **style)
    else:
        report = run_demo(arguments.out, colormap=arguments.colormap or COLORMAP, **style)
    text = f"{report.to_table()}\n\nPictures and artifacts are in {arguments.out}; start with {report.contact_sheet}."
    allowed = TOLERANCES["float32"].cam
    if report.largest_difference <= allowed:
        return Outcome(text, report.to_dict())
    reason = (
        f"an artifact's map differs from the eager network's by {report.largest_difference:.1e}, allowed {allowed:.0e}."
    )
    return Outcome(text, report.to_dict(), FAILED, [reason])
