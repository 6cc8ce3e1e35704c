"""``explainable-model export``: write one artifact that predicts and explains."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.method_options import wrapper_arguments
from explainable_model.cli.network import load_network, make_example_image
from explainable_model.cli.outcome import (
    Outcome,
    describe_agreement,
    describe_artifact,
    format_bytes,
    shorten_record,
    show_warnings,
)
from explainable_model.cli.preparation import WRITE_PREPARATION, require_preparation
from explainable_model.errors import ArtifactError, InputError, ModelError
from explainable_model.explainer.detection_defaults import DETECTION

UNPREPARED = f"nothing says how a photo becomes the input. {WRITE_PREPARATION}"

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.artifact.metadata import Metadata
    from explainable_model.exporters.format import Format
    from explainable_model.imaging.overlay import OverlayStyle
    from explainable_model.networks.named import NamedModel


def export(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Write one artifact, which is compared with the network before it is renamed to its path."""
    from explainable_model.explainer.explainer import wrap_network_errors
    from explainable_model.exporters.pipeline import export as write
    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import resize_preprocess
    from explainable_model.runtime import read_metadata

    path: Path = arguments.out
    fmt = _choose_format(path, arguments.format)
    named = _load(arguments, console, fmt.name == "onnx")
    image = _make_image(named, arguments)
    reference = None if arguments.reference is None else _read_photo(named, arguments, arguments.reference)
    preprocess = named.preprocess and resize_preprocess(named.preprocess, (image.shape[2], image.shape[3]))
    if preprocess is not None and arguments.window is not None:
        preprocess = replace(preprocess, window=arguments.window)
    if preprocess is None:
        console.warn(f"{path} will take prepared images, and no photos: {UNPREPARED}")
    explainable = ExplainableModel(named.model, **wrapper_arguments(arguments))
    with wrap_network_errors(named.model, image.shape):
        answer: Any = explainable(image)
    if arguments.task == DETECTION and not answer.detections.valid.any():
        raise InputError(
            f"The detector finds no box in {arguments.example}, so that no map can be compared; name a photo of "
            "something that it knows."
        )
    console.say(f"lowering, exporting to {fmt.name} and comparing with the network")
    with show_warnings(console), console.track_progress() as progress:
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
            pixel_dtype=arguments.pixel_dtype,
            render=_read_style(arguments),
            profile=arguments.profile,
            opset=arguments.opset,
            precision=arguments.precision,
            calibration=arguments.calibrate,
            reference=reference,
            output_kind=named.output_kind,
            threshold=named.threshold,
            progress=progress,
        )
    return _describe_export(path, read_metadata(path))


def _make_image(named: "NamedModel", arguments: argparse.Namespace) -> "Tensor":
    """Make the image on which the artifact is compared with the network: a photo, or seeded noise.

    Raises:
        InputError: a detector without a photo, which finds nothing in noise; or nothing says how a photo is prepared.
    """
    if arguments.example is None:
        if arguments.task == DETECTION:
            raise InputError(
                "A detector finds no boxes in noise, where no map can be compared; name a photo of something that it "
                "knows: --example street.jpg."
            )
        return make_example_image(named, arguments.size, arguments.batch or 1)
    return _read_photo(named, arguments, arguments.example).repeat(arguments.batch or 1, 1, 1, 1)


def _read_photo(named: "NamedModel", arguments: argparse.Namespace, path: Path) -> "Tensor":
    """Prepare a photo, ``(1, C, H, W)``."""
    import torch

    from explainable_model.explainer.explainer import find_dtype
    from explainable_model.imaging.preprocess import open_photo
    from explainable_model.networks.named import resize_preprocess

    require_preparation(named)
    assert named.preprocess is not None
    prepare = named.preprocess if arguments.size is None else resize_preprocess(named.preprocess, arguments.size)
    photo = open_photo(path, arguments.window or prepare.window)
    return torch.from_numpy(prepare(photo)).to(find_dtype(named.model))


def _load(arguments: argparse.Namespace, console: Console, is_onnx: bool) -> "NamedModel":
    """Load the network; of an ONNX file that needs it, with its nodes where ONNX is written."""
    kept = arguments.layer or True
    if arguments.keep_graph is not None:
        return load_network(arguments, console, kept if arguments.keep_graph else False)
    source, _, file = arguments.model.partition(":")
    if is_onnx and source == "onnx" and file:
        from explainable_model.networks.onnx.read import keeps_by_itself

        if keeps_by_itself(file):
            try:
                return load_network(arguments, console, kept)
            except ModelError as error:
                console.warn(f"the nodes of {file} are not kept: {error}")
    return load_network(arguments, console)


def _choose_format(path: Path, name: str | None) -> "Format":
    """Choose the format by its name or the suffix, which must agree.

    Raises:
        ArtifactError: they do not, or there is no such format.
    """
    from explainable_model.exporters import format_by_suffix, format_of

    fmt = format_of(path, name)
    if format_by_suffix(path) is not fmt:
        fitting = path.with_name(path.name.split(".")[0] + fmt.suffixes[0])
        raise ArtifactError(
            f"The suffix of {path} is not that of the format {fmt.name}, whose files end in "
            f"{' or '.join(fmt.suffixes)}; expected for example -o {fitting}. The suffix tells every reader the format."
        )
    return fmt


def _describe_export(path: Path, metadata: "Metadata") -> Outcome:
    size = path.stat().st_size
    text = f"{path}: {describe_artifact(metadata)}, {format_bytes(size)}. "
    text += "It agrees with the network." if metadata.agreement is None else describe_agreement(metadata)
    return Outcome(text, {"path": str(path), "bytes": size, **shorten_record(metadata)})


def _read_style(arguments: argparse.Namespace) -> "OverlayStyle | None":
    """Read how the artifact draws overlays; ``None`` where it draws none."""
    from explainable_model.imaging.overlay import ALPHA, OverlayStyle

    if arguments.render is None and (arguments.colormap or arguments.alpha is not None):
        raise InputError("--colormap and --alpha shape the overlay; add --render overlay, or leave them out.")
    if arguments.render is None:
        return None
    return OverlayStyle(arguments.colormap, ALPHA if arguments.alpha is None else arguments.alpha)
