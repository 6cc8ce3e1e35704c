"""``explainable-model export``: write one artifact that predicts and explains."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.cli.console import Console
from explainable_model.cli.method_options import wrapper_arguments
from explainable_model.cli.network import _example_image, _load_network
from explainable_model.cli.outcome import Outcome, _agreement, _headline, _megabytes, _said_in_one_line, _without_names
from explainable_model.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from explainable_model.imaging.overlay import OverlayStyle


def export(arguments: argparse.Namespace, console: Console) -> Outcome:
    """One artifact, compared with the network before it gets its name."""
    from explainable_model.explainer.explainer import network_failures
    from explainable_model.exporters import format_by_suffix, format_of
    from explainable_model.exporters.pipeline import export as write
    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import resized
    from explainable_model.runtime import read_metadata

    path: Path = arguments.out
    fmt = format_of(path, arguments.format)
    if format_by_suffix(path) is not fmt:
        fitting = path.with_name(path.name.split(".")[0] + fmt.suffixes[0])
        raise ArtifactError(
            f"{path} is to be of format {fmt.name}, whose files end in {' or '.join(fmt.suffixes)}: the suffix tells "
            f"every reader the format. Expected for example -o {fitting}."
        )
    named = _load_network(arguments, console)
    image = _example_image(named, arguments.size, arguments.batch or 1)
    preprocess = named.preprocess and resized(named.preprocess, (image.shape[2], image.shape[3]))
    explainable = ExplainableModel(named.model, **wrapper_arguments(arguments))
    with network_failures(named.model, image.shape):
        explainable(image)
    console.say(f"lowering, exporting to {fmt.name} and comparing with the network")
    with _said_in_one_line(console), console.counting() as progress:
        write(
            explainable,
            path,
            image,
            format=fmt.name,
            preprocess=preprocess,
            class_names=named.class_names,
            dynamic_size=arguments.dynamic_size,
            dynamic_batch=arguments.batch is None,
            pixels=arguments.pixels,
            render=_look_of_export(arguments),
            profile=arguments.profile,
            precision=arguments.precision,
            calibration=arguments.calibrate,
            progress=progress,
        )
    metadata = read_metadata(path)
    size = path.stat().st_size
    text = f"{path}: {_headline(metadata)}, {_megabytes(size)}. "
    text += "It agrees with the network." if metadata.agreement is None else _agreement(metadata)
    return Outcome(text, {"path": str(path), "bytes": size, **_without_names(metadata)})


def _look_of_export(arguments: argparse.Namespace) -> "OverlayStyle | None":
    from explainable_model.imaging.overlay import ALPHA, OverlayStyle

    if arguments.render is None and (arguments.colormap or arguments.alpha is not None):
        raise InputError("--colormap and --alpha are for the overlay that --render overlay draws.")
    if arguments.render is None:
        return None
    return OverlayStyle(arguments.colormap, ALPHA if arguments.alpha is None else arguments.alpha)
