"""From an explainable network to a verified file."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from explainable_model.artifact.metadata import PRECISIONS, Metadata, Precision, Profile
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explanation import OVERLAY
from explainable_model.exporters import format_of
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.lowering.imaging import make_photo_io
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.pipeline import with_photo_io
from explainable_model.model import ExplainableModel, lower
from explainable_model.verify.agreement import Progress
from explainable_model.verify.calibration import MINIMUM, Calibration, calibration_images
from explainable_model.verify.samples import example_like, tested_sizes


def export(
    explainable: "ExplainableModel | LoweredModel",
    path: str | Path,
    image: "Tensor | None" = None,
    *inputs: "Tensor",
    format: str | None = None,
    preprocess: "Preprocess | None" = None,
    class_names: Sequence[str] | None = None,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    pixels: str | None = None,
    render: "str | OverlayStyle | None" = None,
    profile: "Profile" = "full",
    precision: "Precision | None" = None,
    calibration: "Calibration | None" = None,
    progress: "Progress | None" = None,
) -> Path:
    """Write one artifact that predicts and explains, and prove it right before it is there.

    The network is lowered, written to a temporary name, loaded in the format's own runtime and
    compared with the network itself on images other than the example and at other batch sizes; only
    then does it get its name.

    Args:
        explainable: the network and what to explain of it; or a lowered model, whose graph is then
            what the artifact is compared with.
        path: the file to write; its suffix picks the format.
        image: ``(N, C, *spatial)``, an example; may be left out where ``explainable`` knows one.
        inputs: examples of what else the network and the target take.
        format: key of ``FORMATS``, for another suffix.
        preprocess: from a photo to the input: for the metadata, or for the graph itself where ``pixels`` is given.
        class_names: one per class, for the metadata.
        dynamic_size: leave height and width open as well, see ``lower``.
        dynamic_batch: ``False`` fixes the batch size to the example's, for runtimes that want every size known; for
            ExecuTorch it is always fixed.
        pixels: ``"NCHW"`` or ``"NHWC"``: the artifact takes photos in that layout, uint8 RGB of any size, prepares
            them by ``preprocess`` itself, and returns maps at the photo's size with the crop undone (zero where the
            network did not look). The photo is resized as Pillow does it, to the level but for ties.
        render: ``"overlay"`` (or an ``OverlayStyle``: colormap, alpha, threshold) adds a fourth output, the photo under
            its map as uint8; needs ``pixels``.
        profile: ``portable`` keeps to the operators that strict runtimes have, for the example's shape; see ``lower``.
        precision: ``float16`` or ``int8``, for ONNX; image, logits and cam stay float32. How far the artifact agrees
            with the one in float32 is recorded as ``Metadata.agreement``.
        calibration: what int8 is calibrated with, and both are compared on: a folder of photos, their paths, or an
            array ``(M, C, *spatial)`` of what the artifact takes (with ``pixels``, photos of one size in that layout);
            at least 8, better some hundred.
        progress: told what is done with those images, how many are done, and how many there are.

    Returns:
        The path.

    Raises:
        ArtifactError: unknown format, or a path that cannot be written; nothing is left behind.
        LoweringError: an operator without a lowering, named with its layer.
        InputError: images to calibrate with that cannot be used, or a precision that the format has not.
        VerificationError: the artifact disagrees with the network; nothing is left behind.
        MissingRuntimeError: a package that the format needs is not installed.

    Example:
        >>> export(explainable, "resnet50.onnx", image)            # doctest: +SKIP
        PosixPath('resnet50.onnx')
    """
    from explainable_model.exporters.describe import describe
    from explainable_model.verify.parity import require_parity

    path = Path(path)
    fmt = format_of(path, format)
    if fmt.fixed_size and (dynamic_size or pixels is not None):
        raise InputError(
            f"{fmt.runtime} plans its memory for one image size: leave dynamic_size and pixels out for {path.name}."
        )
    check_precision(fmt.name, precision, calibration)
    if pixels is not None and profile != "full":
        raise InputError(
            f"The {profile} profile is for images of one size, and photos are of any: leave out pixels, and prepare "
            "them outside of the artifact, or leave out profile."
        )
    dynamic_batch = dynamic_batch and not fmt.fixed_size
    with StagedOutput(path) as staged:
        lowered = ensure_lowered(
            explainable, image, inputs, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch, profile=profile
        )
        lowered = with_pixels(lowered, preprocess, pixels, render)
        metadata = describe(lowered, fmt.name, preprocess, class_names)
        made = staged.folder / path.name
        fmt.write(lowered, made, metadata.to_json())
        runner, _ = fmt.open(made, None)
        require_parity(explainable, lowered, metadata, runner)
        if precision is not None:
            reduce(made, lowered, metadata, precision, calibration, progress)
        staged.commit()
    return path


class StagedOutput:
    """A folder beside the target, so that finished files only need to be renamed; gone afterwards."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> "StagedOutput":
        parent = self._target.absolute().parent
        try:
            if self._target.is_dir():
                raise IsADirectoryError(f"{self._target} is a directory")
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self._target.name}.", dir=parent))
        except OSError as error:
            raise ArtifactError(
                f"{self._target} cannot be written ({error.strerror or error}); choose a file in an existing "
                "folder that you may write to."
            ) from error
        return self

    def commit(self) -> None:
        """Rename the files into place, what the main file refers to first."""
        made = sorted(self.folder.iterdir(), key=lambda file: file.name == self._target.name)
        for file in made:
            os.replace(file, self._target.absolute().parent / file.name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ImportError):
            raise ArtifactError(
                f"{self._target} could not be written ({error.strerror or error}); nothing was left behind."
            ) from error


def ensure_lowered(
    explainable: ExplainableModel | LoweredModel,
    image: Tensor | None,
    inputs: Sequence[Tensor],
    *,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    profile: Profile = "full",
) -> LoweredModel:
    """The lowered model, made with ``image`` or the example that the module knows.

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
    lowered: LoweredModel, preprocess: Preprocess | None, pixels: str | None, render: str | OverlayStyle | None
) -> LoweredModel:
    """The lowered model that takes photos, where it is asked for.

    Raises:
        InputError: what to draw is not known, or there are no pixels to draw on; and as ``make_photo_io``.
    """
    if pixels is None and render is not None:
        raise InputError("render draws on the photo, which the artifact needs to take: pixels='NCHW' or 'NHWC'.")
    if pixels is None:
        return lowered
    look = OverlayStyle() if render == OVERLAY else render
    if isinstance(look, str):
        raise InputError(
            f"render is {render!r}; expected 'overlay' or explainable_model.imaging.overlay.OverlayStyle(...)."
        )
    return with_photo_io(lowered, make_photo_io(lowered.plan, lowered.example, preprocess, pixels, look))


def reduce(
    path: Path,
    lowered: LoweredModel,
    metadata: Metadata,
    precision: Precision,
    calibration: Calibration | None,
    progress: Progress | None,
) -> None:
    """Rewrite a finished artifact in less precision, see ``reduce_precision``.

    Raises:
        InputError: no photos to calibrate with.
    """
    from explainable_model.exporters.onnx_precision import reduce_precision

    if calibration is not None:
        images = calibration_images(calibration, metadata, progress)
    else:
        batch = metadata.batch or 1
        size = tested_sizes(lowered)[0]
        images = [example_like(lowered, batch, seed, size).cpu().numpy() for seed in range(MINIMUM)]
    reduce_precision(path, metadata, precision, images, photos=calibration is not None, progress=progress)


def check_precision(format: str, precision: str | None, calibration: Calibration | None) -> None:
    """Refuse a precision that there is not, before any work is done.

    Raises:
        InputError: an unknown precision, one that the format has not, or int8 without photos.
    """
    if precision is None:
        if calibration is not None:
            raise InputError("calibration is for precision='int8' (or 'float16', to compare with); name one.")
        return
    if precision not in PRECISIONS:
        raise InputError(
            f"Unknown precision {precision!r}; known: {', '.join(PRECISIONS)}, or None for the network's own."
        )
    if format != "onnx":
        raise InputError(
            f"The format {format} is written in the network's own precision only; precision={precision!r} is for onnx. "
            "Or give a network.half() with a float16 image."
        )
    if precision == "int8" and calibration is None:
        raise InputError(
            f"precision='int8' needs calibration=: a folder of {MINIMUM} or more photos of the kind that the network "
            "will see, their paths, or an array of what it takes."
        )
