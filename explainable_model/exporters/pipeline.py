"""From an explainable network to a verified file."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from explainable_model.artifact.checksum import UNWRITTEN, write_checksum
from explainable_model.artifact.metadata import Metadata, Precision, Profile
from explainable_model.artifact.runner import Array, Runner
from explainable_model.attribution.boxes import BoxScore
from explainable_model.errors import ArtifactError, InputError, UntrustedArtifactError, UntrustedArtifactWarning
from explainable_model.explanation import OVERLAY, PRESENT, OutputKind, Progress, check_threshold
from explainable_model.exporters import format_by_suffix, format_of
from explainable_model.exporters.describe import describe
from explainable_model.exporters.detectors import check_detector
from explainable_model.exporters.format import Format
from explainable_model.exporters.onnx_kept import check_kept
from explainable_model.exporters.onnx_opset import default_opset
from explainable_model.exporters.onnx_precision import reduce_precision
from explainable_model.exporters.opening import find_companion, open_artifact
from explainable_model.exporters.requests import check_opset, check_photos, check_precision, check_request
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.capture.leftovers import forget_leftovers
from explainable_model.lowering.imaging import make_photo_io
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.pipeline import with_photo_io
from explainable_model.model import ExplainableModel, lower
from explainable_model.networks.transforms import as_preprocess
from explainable_model.paths import as_path
from explainable_model.progress import ProgressLike, as_progress
from explainable_model.verify.calibration import MINIMUM, Calibration, calibration_images
from explainable_model.verify.require import require_parity
from explainable_model.verify.samples import example_like, tested_sizes
from explainable_model.writing import StagedOutput, resolve_target


@forget_leftovers()
def export(
    explainable: ExplainableModel | LoweredModel,
    path: str | Path,
    image: Tensor | None = None,
    *inputs: Tensor,
    format: str | None = None,
    preprocess: Preprocess | Callable[..., Any] | None = None,
    class_names: Sequence[str] | None = None,
    output_kind: OutputKind | None = None,
    threshold: float = PRESENT,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    pixels: str | None = None,
    pixel_dtype: str = "uint8",
    render: str | OverlayStyle | None = None,
    profile: Profile = "full",
    opset: int | None = None,
    precision: Precision | None = None,
    calibration: Calibration | None = None,
    reference: Tensor | None = None,
    progress: ProgressLike = None,
) -> Path:
    """Write one artifact that predicts and explains, and compare it with the network before it gets its name.

    The network is lowered, written to a temporary file, loaded in the format's own runtime and compared with the
    network itself, on images other than the example and at other batch sizes. Only then is the file renamed.

    Args:
        explainable: the network and what to explain of it; or a lowered model, with whose graph the artifact is
            compared then.
        path: the file to write; its suffix picks the format.
        image: ``(N, C, *spatial)``, an example; may be left out where ``explainable`` has one.
        inputs: examples of the other inputs of the network and the target.
        format: key of ``FORMATS``, for a file with another suffix.
        preprocess: how a photo becomes the input; stored in the metadata, and put into the graph where ``pixels`` is
            given. A ``Compose`` of torchvision or timm is translated.
        class_names: one name per class, for the metadata.
        output_kind: how the output is read as probabilities, for the metadata, see ``OutputKind``; ``None`` finds it
            from the graph. A multi-label network without a sigmoid needs ``"sigmoid_logits"``, a regression
            ``"scores"``: their graphs do not tell.
        threshold: smallest probability of a class that is present, for the metadata, where each class is present or
            absent by itself.
        dynamic_size: leave height and width open as well, see ``lower``.
        dynamic_batch: ``False`` fixes the batch size to the example's, for runtimes that need to know every size.
            Formats of fixed size always have a fixed batch.
        pixels: ``"NCHW"`` or ``"NHWC"``: the artifact takes photos in that layout, RGB of any size (``"NHW"``: gray
            ones), and prepares them by ``preprocess`` itself. Its maps have the photo's size and are zero outside of
            the crop; boxes are in the photo's pixels. The photo is resized as Pillow resizes it, and differs by one
            level only where a value rounds half-way.
        pixel_dtype: type of the photos, ``"uint8"``; or ``"uint16"``, of gray ones of 9 to 16 bits, to which the
            artifact applies ``preprocess.window``.
        render: ``"overlay"`` (or an ``OverlayStyle``: colormap, alpha, threshold) adds a fourth output, uint8: the map
            drawn over the photo. Needs ``pixels``.
        profile: ``portable`` uses only operators that strict runtimes have, for the example's shape; see ``lower``.
        opset: version of ONNX's operators, 13 to the newest that onnx knows; ``None`` for 18. An operator that an
            older one lacks is written in operators that it has, or refused.
        precision: ``float16`` or ``int8``, for the formats that have it (``Format.precisions``); image, logits and cam
            stay float32. ``Metadata.agreement`` records how far the artifact agrees with the one in float32.
        calibration: images to calibrate int8 with, and to compare both artifacts on: a folder of photos, their paths,
            or an array ``(M, C, *spatial)`` of what the artifact takes (with ``pixels``, photos of one size in that
            layout); at least 8, better some hundred.
        reference: of a detector a photo with objects, prepared like the example. A coarse copy of it is stored in the
            file, with the boxes in it, so that a server or a page can compare its own boxes when it starts. Without,
            they compare the answer to waves, in which a trained detector finds nothing.
        progress: ``True`` for bars, or a function that is called with the step (``"reading"``, ``"calibrating"``,
            ``"comparing"``), the number of finished images, and the number of all images.

    Returns:
        The path.

    Raises:
        ArtifactError: the format is unknown, or the path cannot be written; nothing is left behind.
        LoweringError: an operator has no lowering; the message names its layer.
        InputError: options contradict each other, the format does not have the precision, or the images to calibrate
            with cannot be used.
        VerificationError: the artifact disagrees with the network; nothing is left behind.
        MissingRuntimeError: a package that the format needs is not installed.

    Example:
        >>> export(explainable, "resnet50.onnx", image)            # doctest: +SKIP
        PosixPath('resnet50.onnx')
    """
    path = as_path(path)
    fmt = format_of(path, format)
    target = resolve_target(path)
    if format is None and format_by_suffix(target) is not fmt:
        raise ArtifactError(f"{path} is a link to {target}, whose suffix is not that of {fmt.name}; name another file.")
    preparation, told = as_preprocess(preprocess), as_progress(progress)
    check_request(fmt, path, dynamic_size=dynamic_size, pixels=pixels, profile=profile)
    check_photos(pixels, pixel_dtype, preparation)
    check_opset(fmt, path, opset)
    check_precision(fmt, precision, calibration, preparation)
    if isinstance(explainable.plan.target, BoxScore):
        check_detector(fmt, path, dynamic_size=dynamic_size, render=render, profile=profile, precision=precision)
    elif reference is not None:
        raise InputError("reference= is of detectors; others record their answer to waves. Leave it out.")
    with StagedOutput(path) as staged:
        lowered = ensure_lowered(
            explainable,
            image,
            inputs,
            dynamic_size=dynamic_size,
            dynamic_batch=dynamic_batch and not fmt.fixed_size,
            profile=profile,
        )
        check_kept(lowered.kept, fmt, path, precision)
        lowered = with_pixels(lowered, preparation, pixels, render, pixel_dtype)
        described = describe(
            lowered, fmt.name, preparation, class_names, output_kind, check_threshold(threshold), reference
        )
        unwritten, file = replace(described, checksum=UNWRITTEN), staged.file
        if fmt.opsets is not None:
            unwritten = replace(unwritten, opset=opset or default_opset(lowered.kept))
        fmt.write(lowered, file, unwritten.to_json(), *(() if opset is None else (opset,)))
        write_checksum(file, find_companion(file, fmt))
        runner, metadata = open_own(fmt, file)
        require_parity(explainable, lowered, metadata, runner)
        if precision is not None:
            images = comparison_images(lowered, metadata, calibration, told)
            photos = calibration is not None
            reduce_precision(file, unwritten, precision, images, photos=photos, progress=told)
            write_checksum(file)
        staged.commit()
    return path


def open_own(fmt: Format, file: Path) -> tuple[Runner, Metadata]:
    """Open a file that was just made, and warn where ``load`` will ask for ``trusted=True``."""
    try:
        return open_artifact(file, fmt, trusted=fmt.machine_code)
    except UntrustedArtifactError as error:
        if fmt.open_trusted is None:
            raise
        reason = str(error).partition(": ")[2]
        warnings.warn(
            f"load({file.name!r}) will need trusted=True, since the check of foreign files refuses it: {reason}",
            UntrustedArtifactWarning,
            stacklevel=3,
        )
        return open_artifact(file, fmt, trusted=True)


def ensure_lowered(
    explainable: ExplainableModel | LoweredModel,
    image: Tensor | None,
    inputs: Sequence[Tensor],
    *,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    profile: Profile = "full",
) -> LoweredModel:
    """Lower the network with ``image`` or its own example, unless it is lowered already.

    Raises:
        InputError: there is no example at all, or the lowered model is for other dimensions.
    """
    if isinstance(explainable, LoweredModel):
        if dynamic_size and explainable.sizes is None:
            raise InputError("The lowered model is for one image size; lower it with dynamic_size=True.")
        if not dynamic_batch and explainable.dynamic_batch:
            raise InputError("The lowered model is for any batch size; lower it with dynamic_batch=False.")
        if profile != "full" and explainable.profile != profile:
            raise InputError(f"The lowered model is not of the {profile} profile; lower it with profile={profile!r}.")
        return explainable
    example = explainable.example if image is None else image
    if example is None:
        raise InputError("export needs an example image: export(explainable, path, image), shape (N, C, H, W).")
    return lower(explainable, example, *inputs, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch, profile=profile)


def with_pixels(
    lowered: LoweredModel,
    preprocess: Preprocess | None,
    pixels: str | None,
    render: str | OverlayStyle | None,
    pixel_dtype: str = "uint8",
) -> LoweredModel:
    """Let the lowered model take photos, where ``pixels`` is given.

    Raises:
        InputError: ``render`` is unknown or lacks ``pixels``; and as ``make_photo_io``.
    """
    if pixels is None and render is not None:
        raise InputError("render draws on the photo, which the artifact needs to take: pixels='NCHW', 'NHWC' or 'NHW'.")
    if pixels is None:
        return lowered
    look = OverlayStyle() if render == OVERLAY else render
    if isinstance(look, str):
        raise InputError(
            f"render is {render!r}; expected 'overlay' or explainable_model.imaging.overlay.OverlayStyle(...)."
        )
    return with_photo_io(lowered, make_photo_io(lowered.plan, lowered.example, preprocess, pixels, look, pixel_dtype))


def comparison_images(
    lowered: LoweredModel, metadata: Metadata, calibration: Calibration | None, progress: Progress | None
) -> list[Array]:
    """The images that an artifact in less precision is compared on: the user's, or made-up ones.

    Raises:
        InputError: the user's images cannot be used.
    """
    if calibration is not None:
        return calibration_images(calibration, metadata, progress)
    batch, size = metadata.batch or 1, tested_sizes(lowered)[0]
    return [example_like(lowered, batch, seed, size).cpu().numpy() for seed in range(MINIMUM)]
