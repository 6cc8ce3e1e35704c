"""The formats an explanation can be exported to: one file each, and the table of them."""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.errors import ArtifactError, InputError
from explainable_model.exporters.aotinductor import AOTINDUCTOR
from explainable_model.exporters.executorch import EXECUTORCH
from explainable_model.exporters.format import Format
from explainable_model.exporters.onnx import ONNX
from explainable_model.exporters.openvino import OPENVINO
from explainable_model.exporters.pt2 import PT2
from explainable_model.exporters.torchscript import TORCHSCRIPT

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.agreement import Progress
    from explainable_model.calibration import Calibration
    from explainable_model.lowering import LoweredModel
    from explainable_model.metadata import Precision, Profile
    from explainable_model.model import ExplainableModel
    from explainable_model.overlay import Look
    from explainable_model.preprocess import Preprocess

FORMATS: Mapping[str, Format] = {
    "torchscript": TORCHSCRIPT,
    "onnx": ONNX,
    "pt2": PT2,
    "aotinductor": AOTINDUCTOR,
    "openvino": OPENVINO,
    "executorch": EXECUTORCH,
}


def format_of(path: str | Path, name: str | None = None) -> Format:
    """The format of that name, or the one that a file's suffix stands for.

    Raises:
        ArtifactError: no such format; the known ones are listed.
    """
    known = ", ".join(f"{fmt.name} ({', '.join(fmt.suffixes)})" for fmt in FORMATS.values())
    if name is not None:
        if name not in FORMATS:
            raise ArtifactError(f"Unknown format {name!r}; known formats: {known}.")
        return FORMATS[name]
    fmt = format_by_suffix(path)
    if fmt is None:
        suffix = Path(path).suffix.lower()
        raise ArtifactError(f"{path} has the suffix {suffix!r}, which stands for no format; known formats: {known}.")
    return fmt


def format_by_suffix(path: str | Path) -> Format | None:
    """The format of the longest suffix that fits the name: ``.aoti.pt2`` is not ``.pt2``."""
    suffixes = {suffix: fmt for fmt in FORMATS.values() for suffix in fmt.suffixes}
    fitting = [suffix for suffix in suffixes if Path(path).name.lower().endswith(suffix)]
    return suffixes[max(fitting, key=len)] if fitting else None


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
    render: "str | Look | None" = None,
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
        render: ``"overlay"`` (or a ``Look``: colormap, alpha, threshold) adds a fourth output, the photo under its map
            as uint8; needs ``pixels``.
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
    from explainable_model.exporters.write import check_precision, describe, lowered_of, reduce, with_pixels
    from explainable_model.verify import require_parity

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
    with _workshop(path) as workshop:
        lowered = lowered_of(
            explainable, image, inputs, dynamic_size=dynamic_size, dynamic_batch=dynamic_batch, profile=profile
        )
        lowered = with_pixels(lowered, preprocess, pixels, render)
        metadata = describe(lowered, fmt.name, preprocess, class_names)
        made = workshop.folder / path.name
        fmt.write(lowered, made, metadata.to_json())
        runner, _ = fmt.open(made, None)
        require_parity(explainable, lowered, metadata, runner)
        if precision is not None:
            reduce(made, lowered, metadata, precision, calibration, progress)
        workshop.deliver()
    return path


class _workshop:
    """A folder beside the target, so that finished files only need to be renamed; gone afterwards."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> "_workshop":
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

    def deliver(self) -> None:
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
