"""From an explainable network to a verified file."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from explainable_model.artifact.checksum import UNWRITTEN, write_checksum
from explainable_model.artifact.metadata import PRECISIONS, Metadata, Precision, Profile
from explainable_model.artifact.runner import Array, Runner
from explainable_model.attribution.boxes import BoxScore
from explainable_model.errors import ArtifactError, InputError, UntrustedArtifactError, UntrustedArtifactWarning
from explainable_model.explanation import OVERLAY, PRESENT, OutputKind, Progress, check_threshold
from explainable_model.exporters import FORMATS, format_by_suffix, format_of
from explainable_model.exporters.describe import describe
from explainable_model.exporters.detectors import check_detector
from explainable_model.exporters.format import Format
from explainable_model.exporters.onnx_kept import check_kept
from explainable_model.exporters.onnx_precision import reduce_precision
from explainable_model.exporters.opening import find_companion, open_artifact
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.capture.leftovers import forget_leftovers
from explainable_model.lowering.imaging import make_photo_io
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.pipeline import with_photo_io
from explainable_model.lowering.pixels import check_pixels
from explainable_model.model import ExplainableModel, lower
from explainable_model.networks.transforms import as_preprocess
from explainable_model.paths import as_path
from explainable_model.progress import ProgressLike, as_progress
from explainable_model.verify.calibration import MINIMUM, Calibration, calibration_images, check_calibration
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
    precision: Precision | None = None,
    calibration: Calibration | None = None,
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
            the crop. The photo is resized as Pillow resizes it, and differs by one level only where a value rounds
            half-way.
        pixel_dtype: type of the photos, ``"uint8"``; or ``"uint16"``, of gray ones of 9 to 16 bits, to which the
            artifact applies ``preprocess.window``.
        render: ``"overlay"`` (or an ``OverlayStyle``: colormap, alpha, threshold) adds a fourth output, uint8: the map
            drawn over the photo. Needs ``pixels``.
        profile: ``portable`` uses only operators that strict runtimes have, for the example's shape; see ``lower``.
        precision: ``float16`` or ``int8``, for the formats that have it (``Format.precisions``); image, logits and cam
            stay float32. ``Metadata.agreement`` records how far the artifact agrees with the one in float32.
        calibration: images to calibrate int8 with, and to compare both artifacts on: a folder of photos, their paths,
            or an array ``(M, C, *spatial)`` of what the artifact takes (with ``pixels``, photos of one size in that
            layout); at least 8, better some hundred.
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
    check_precision(fmt, precision, calibration, preparation)
    if isinstance(explainable.plan.target, BoxScore):
        check_detector(fmt, path, dynamic_size=dynamic_size, pixels=pixels, profile=profile, precision=precision)
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
        described = describe(lowered, fmt.name, preparation, class_names, output_kind, check_threshold(threshold))
        unwritten, file = replace(described, checksum=UNWRITTEN), staged.file
        fmt.write(lowered, file, unwritten.to_json())
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


def check_request(fmt: Format, path: Path, *, dynamic_size: bool, pixels: str | None, profile: Profile) -> None:
    """Refuse options that contradict each other, before any work is done.

    Raises:
        InputError: which of them to leave out.
    """
    if fmt.fixed_size and (dynamic_size or pixels is not None):
        raise InputError(
            f"{fmt.runtime} plans its memory for one image size: leave dynamic_size and pixels out for {path.name}."
        )
    if pixels is not None and profile != "full":
        raise InputError(
            f"The {profile} profile is for images of one size, and photos are of any: leave out pixels, and prepare "
            "them outside of the artifact, or leave out profile."
        )


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


def check_photos(pixels: str | None, pixel_dtype: str, preprocess: Preprocess | None) -> None:
    """Refuse photos that artifacts do not take, before any work is done.

    Raises:
        InputError: a type without a layout; and as ``check_pixels``.
    """
    if pixels is not None and preprocess is not None:
        check_pixels(pixels, pixel_dtype, preprocess.window)
    elif pixels is None and pixel_dtype != "uint8":
        raise InputError(f"pixel_dtype={pixel_dtype!r} is of photos, which the artifact needs to take: pixels='NHW'.")


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


def check_precision(
    fmt: Format, precision: str | None, calibration: Calibration | None, preprocess: Preprocess | None
) -> None:
    """Refuse a precision that the format does not have, before any work is done.

    Raises:
        InputError: the precision is unknown, the format does not have it, or there are too few images to calibrate
            with.
    """
    if precision is None:
        if calibration is not None:
            raise InputError("calibration is for precision='int8' (or 'float16', to compare with); name one.")
        return
    if precision not in PRECISIONS:
        raise InputError(
            f"Unknown precision {precision!r}; known: {', '.join(PRECISIONS)}, or None for the network's own."
        )
    if precision not in fmt.precisions:
        able = [other.name for other in FORMATS.values() if precision in other.precisions]
        raise InputError(
            f"The format {fmt.name} is written in the network's own precision only; precision={precision!r} is for "
            f"{', '.join(able)}. Or give a network.half() with a float16 image."
        )
    if precision == "int8" and calibration is None:
        raise InputError(
            f"precision='int8' needs calibration=: a folder of {MINIMUM} or more photos of the kind that the network "
            "will see, their paths, or an array of what it takes."
        )
    if calibration is not None:
        check_calibration(calibration, preprocess)
