"""``explainable-model verify``: compare an artifact with its recorded answer, and with the network."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.cli.console import Console
from explainable_model.cli.network import load_network, refuse_without_model
from explainable_model.cli.outcome import FAILED, Outcome, describe_artifact, show_warnings
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from explainable_model.artifact.metadata import Metadata
    from explainable_model.artifact.runner import Runner
    from explainable_model.model import ExplainableModel
    from explainable_model.verify.parity import Parity


def verify(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Compare an artifact with its recorded answer, and with the network where one is named."""
    from explainable_model.artifact.reference import check_reference
    from explainable_model.exporters.opening import compare_checksum, open_artifact
    from explainable_model.runtime import find_artifact

    path: Path = arguments.file
    if arguments.nodes:
        return _compare_nodes(arguments, console)
    if arguments.model is None:
        refuse_without_model(
            arguments, "checkpoint", "pretrained", "classes", reason="an artifact has its weights inside"
        )
    path, fmt = find_artifact(path)
    difference = compare_checksum(path, fmt)
    if difference:  # a runtime does not read such a file
        failed = {"path": str(path), "checksum": difference, "passed": False, "reason": difference}
        return Outcome(f"{path}: FAILED: {difference}", failed, FAILED)
    runner, metadata = open_artifact(path, fmt, trusted=arguments.trusted)
    console.say(f"running {path}")
    reason = check_reference(metadata, runner)
    checksum = "agrees" if difference is not None else "no checksum recorded"
    record: dict[str, Any] = {"path": str(path), "checksum": checksum, "reference": reason or "agrees"}
    compared = "its checksum and the recorded answer" if difference is not None else "the recorded answer"
    if arguments.model is not None:
        parity = _compare_with_network(arguments, console, metadata, runner)
        record["parity"] = parity.to_dict()
        compared += f" and the network ({parity.images} images: maps within {parity.cam:.1e}, logits within "
        compared += f"{parity.logits:.1e} of the largest)"
        reason = reason or parity.reason
    record.update(passed=not reason, reason=reason)
    if reason:
        return Outcome(f"{path}: FAILED: {reason}", record, FAILED)
    text = f"{path}: {describe_artifact(metadata)}. It agrees with {compared}."
    return Outcome(text if difference is not None else f"{text} There is no checksum recorded.", record)


def _compare_nodes(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Compare every node of an ONNX file in PyTorch and in ONNX Runtime, and name the first that differs."""
    from explainable_model.networks.onnx.read import compare_file_nodes

    path: Path = arguments.file
    if path.suffix.lower() != ".onnx" or arguments.model is not None:
        raise InputError(f"--nodes compares the nodes of one .onnx file; got {path}, or --model beside it.")
    console.say(f"running {path} node by node")
    found = compare_file_nodes(path, size=arguments.size)
    record = {
        "path": str(path),
        "passed": found.first is None,
        "nodes": found.nodes,
        "tolerance": found.tolerance,
        "first": found.first,
        "value": found.difference.value,
        "error": found.difference.error if math.isfinite(found.difference.error) else None,
        "reason": str(found),
    }
    return Outcome(f"{path}: {found}.", record, FAILED if found.first else 0)


def _compare_with_network(
    arguments: argparse.Namespace, console: Console, metadata: "Metadata", runner: "Runner"
) -> "Parity":
    """Compare an artifact with the network that the arguments name."""
    import torch

    from explainable_model.explainer.explainer import wrap_network_errors
    from explainable_model.exporters.pipeline import with_pixels
    from explainable_model.model import ExplainableModel, lower
    from explainable_model.verify.parity import check_parity

    if metadata.precision == "int8":
        raise InputError(
            f"{arguments.file} computes in int8, which agrees with the network on photos alone; leave out --model, and "
            "see its agreement with the command inspect."
        )
    named = load_network(arguments, console)
    explainable = ExplainableModel(named.model, **restore_arguments(metadata))
    if metadata.detection is not None:
        return _compare_boxes(explainable, arguments.file, console, metadata, runner)
    shape = [metadata.batch or 1, *metadata.network_shape]
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(getattr(torch, metadata.dtype))
    with wrap_network_errors(named.model, image.shape):
        logits = explainable(image).logits
    if list(logits.shape[1:]) != metadata.logits_shape[1:]:
        raise InputError(
            f"{arguments.model} returns logits of shape {tuple(logits.shape)}; {arguments.file} was made from a "
            f"network with {tuple(metadata.logits_shape)}. Name the network it was made from."
        )
    console.say("comparing with the network")
    with show_warnings(console):
        lowered = with_pixels(
            lower(explainable, image), metadata.preprocess, metadata.pixels, metadata.look, metadata.pixel_dtype
        )
    return check_parity(explainable, lowered, metadata, runner)


def _compare_boxes(
    explainable: "ExplainableModel", path: Path, console: Console, metadata: "Metadata", runner: "Runner"
) -> "Parity":
    """Compare a detector's artifact with the detector, in the recorded photo and in photos like it."""
    import torch

    from explainable_model.artifact.reference import reference_arrays
    from explainable_model.exporters.pipeline import with_pixels
    from explainable_model.lowering.imaging import PhotoIO
    from explainable_model.model import lower
    from explainable_model.verify.detections import check_detections

    if metadata.reference is None or metadata.reference.photo is None:
        takes_more = len(metadata.input_shapes) > 2  # the image, the ranks, and others
        mend = "its calls take more than an image: " if takes_more else "export it with --reference street.jpg, or "
        raise InputError(
            f"{path} holds no photo with boxes in it, so that no map can be compared; {mend}leave out --model."
        )
    image = torch.from_numpy(reference_arrays(metadata)[0][: metadata.batch or 1])
    prepare, pixels, dtype = metadata.preprocess, metadata.pixels, getattr(torch, metadata.dtype)
    if prepare is not None and pixels is not None:
        image = PhotoIO(prepare, pixels, dtype=dtype, pixel_dtype=metadata.pixel_dtype).image(image)
    console.say("comparing with the network")
    with show_warnings(console):
        lowered = lower(explainable, image, dynamic_batch=metadata.batch is None)
        lowered = with_pixels(lowered, prepare, pixels, None, metadata.pixel_dtype)
    return check_detections(explainable, lowered, metadata, runner)


def restore_arguments(metadata: "Metadata") -> dict[str, Any]:
    """Restore the arguments of ``ExplainableModel`` that an artifact was made with.

    Raises:
        InputError: it explains something that a record cannot name, such as a function of the user.
    """
    from explainable_model.attribution.plan import arguments_of

    try:
        arguments = arguments_of(vars(metadata))
    except ValueError as error:
        raise InputError(
            f"{error} Compare it with explainable_model.verify.parity.check_parity instead, or leave out --model."
        ) from error
    size = metadata.cam_shape[2 - len(metadata.image_shape) :]
    size_is_the_images = metadata.upsample == "none" or metadata.pixels or None in size
    return {**arguments, "size": None if size_is_the_images else size}
