"""Reads volumes from NIfTI files, through nibabel, and prepares them for networks with three spatial dimensions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError, MissingRuntimeError
from explainable_model.imaging.window import Window, check_window

Voxels: TypeAlias = NDArray[np.float32]  # (x, y, z)
Affine: TypeAlias = NDArray[np.float64]  # (4, 4): from voxels to millimeters

SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 100_000_000  # a larger volume is refused before it is read
RAS = "RAS"  # the axes point to the patient's right, front and head
LETTERS = (frozenset("RL"), frozenset("AP"), frozenset("SI"))


@dataclass(frozen=True)
class VolumePreprocess:
    """How a volume becomes the network's input ``(1, 1, X, Y, Z)``: turned, resized, and ``(value - mean) / std``.

    Attributes:
        size: ``(X, Y, Z)`` of the input; one number for a cube. The whole volume is squashed to it, trilinearly.
        window: ``(black, white)``: values that become 0 and 1; those outside are clipped. ``None`` keeps the values.
        mean: subtracted after the window.
        std: divided by after the window.
        orientation: where the axes of the input point, in letters: R or L, A or P, S or I, in any order.
    """

    size: tuple[int, int, int]
    window: Window | None = None
    mean: float = 0.0
    std: float = 1.0
    orientation: str = RAS

    def __post_init__(self) -> None:
        size = (self.size,) * 3 if isinstance(self.size, int) else tuple(self.size)
        object.__setattr__(self, "size", size)
        if len(size) != 3 or min(size) < 1:
            raise ValueError(f"size is {self.size}; expected (X, Y, Z), for example (64, 64, 64).")
        if not self.std > 0:
            raise ValueError(f"std is {self.std}; expected a positive number.")
        if self.window is not None:
            check_window(self.window)
        letters = tuple(self.orientation)
        if len(letters) != 3 or any(sum(letter in pair for letter in letters) != 1 for pair in LETTERS):
            raise ValueError(f"orientation is {self.orientation!r}; expected three letters such as RAS or LPS.")

    def __call__(self, volume: "Volume") -> NDArray[np.float32]:
        """Turn a volume into ``(1, 1, X, Y, Z)`` float32."""
        values: NDArray[Any] = resize_volume(turn(volume.values, RAS, self.orientation), self.size)
        if self.window is not None:
            black, white = self.window
            values = (values.clip(black, white) - black) / np.float32(white - black)
        prepared: NDArray[np.float32] = ((values - np.float32(self.mean)) / np.float32(self.std))[None, None]
        return np.ascontiguousarray(prepared, np.float32)

    def undo(self, cam: NDArray[Any], volume: "Volume") -> Voxels:
        """Bring a map of the input to the voxels of the volume as ``read_volume`` turned it."""
        size = turn(volume.values, RAS, self.orientation).shape
        return turn(resize_volume(np.asarray(cam, np.float32), size), self.orientation, RAS)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume whose axes point to the patient's right, front and head.

    Attributes:
        values: ``(x, y, z)``.
        spacing: millimeters from voxel to voxel along each axis.
        axes: where the axes of the file point, for example ``LPS``.
        affine: of the file, from its voxels to millimeters.
        path: the file, if there is one.
    """

    values: Voxels
    spacing: tuple[float, float, float]
    axes: str
    affine: Affine
    path: Path | None = None

    def to_file_order(self, values: Voxels) -> Voxels:
        """Turn values ``(x, y, z)`` back to the axes of the file."""
        return turn(values, RAS, self.axes)


def is_volume_path(path: Any) -> bool:
    """Whether a path names a NIfTI file."""
    return isinstance(path, str | Path) and str(path).lower().endswith(SUFFIXES)


def read_volume(source: Any) -> Volume:
    """Read a volume.

    Args:
        source: the path of a NIfTI file, or an array or a tensor ``(x, y, z)`` in RAS with voxels of 1 mm.

    Raises:
        InputError: a file that cannot be read, has other dimensions than three, is too large, or says nothing about its
            place in the patient.
        MissingRuntimeError: nibabel is not installed.
    """
    if not isinstance(source, str | Path):
        values = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
        _check_shape("The volume", values.shape)
        return Volume(_as_voxels(values, "The volume"), (1.0, 1.0, 1.0), RAS, np.eye(4))
    nibabel = import_nibabel(f"{source} is NIfTI, which")
    try:
        image = nibabel.load(source)
        shape = image.shape[:3] if len(image.shape) > 3 and set(image.shape[3:]) == {1} else image.shape
        _check_shape(str(source), shape)
        affine, axes = _check_affine(image.affine, source)
        values = np.asanyarray(image.dataobj).reshape(shape)
    except FileNotFoundError as error:
        raise InputError(f"There is no file {source}.") from error
    except InputError:
        raise
    except Exception as error:  # nibabel raises errors of many types on damaged files
        raise InputError(f"{source} cannot be read: {error}. Is it truncated or damaged?") from error
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(0))
    order = [axes.index(next(letter for letter in axes if letter in pair)) for pair in LETTERS]
    spacing = (float(lengths[order[0]]), float(lengths[order[1]]), float(lengths[order[2]]))
    return Volume(turn(_as_voxels(values, str(source)), axes, RAS), spacing, axes, affine, Path(source))


def import_nibabel(purpose: str) -> Any:
    """Import nibabel.

    Raises:
        MissingRuntimeError: it is not installed.
    """
    try:
        import nibabel
    except ImportError as error:
        raise MissingRuntimeError(f"{purpose} needs nibabel: pip install 'explainable-model[nifti]'.") from error
    return nibabel


def turn(values: NDArray[Any], axes: str, to: str) -> Voxels:
    """Permute and flip the axes of a volume, which point as ``axes`` says, so that they point as ``to`` says."""
    order = [next(k for k, letter in enumerate(axes) if _on_one_line(letter, wanted)) for wanted in to]
    steps = tuple(slice(None, None, 1 if axes[k] == wanted else -1) for k, wanted in zip(order, to, strict=True))
    turned: Voxels = np.transpose(values, order)[steps]
    return turned


def _on_one_line(letter: str, other: str) -> bool:
    return any(letter in pair and other in pair for pair in LETTERS)


def resize_volume(values: NDArray[Any], size: Sequence[int]) -> Voxels:
    """Resize a volume trilinearly, as ``torch.nn.functional.interpolate(mode="trilinear")`` does."""
    resized: Voxels = np.asarray(values, np.float32)
    for axis, count in enumerate(size):
        old = resized.shape[axis]
        if old == count:
            continue
        places = np.clip((np.arange(count) + 0.5) * old / count - 0.5, 0, old - 1)
        lower = np.floor(places).astype(np.intp)
        upper = np.minimum(lower + 1, old - 1)
        shape = [1] * resized.ndim
        shape[axis] = count
        share = (places - lower).astype(np.float32).reshape(shape)
        resized = resized.take(lower, axis) * (1 - share) + resized.take(upper, axis) * share
    return resized


def _as_voxels(values: NDArray[Any], name: str) -> Voxels:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name} holds {values.dtype}; expected one real number for each voxel.")
    voxels: Voxels = np.asarray(values, np.float32)
    if not np.isfinite(voxels).all():
        raise InputError(f"{name} has NaN or infinite values; replace them, for example with np.nan_to_num.")
    return voxels


def _check_shape(name: str, shape: Sequence[int]) -> None:
    if len(shape) != 3 or 0 in shape:
        hint = "; explain one volume of the series: image.slicer[..., 0]" if len(shape) == 4 else ""
        raise InputError(f"{name} has the shape {tuple(shape)}; expected three dimensions{hint}.")
    if int(np.prod([int(length) for length in shape], dtype=object)) > MAX_VOXELS:
        raise InputError(f"{name} has {' x '.join(map(str, shape))} voxels; expected at most {MAX_VOXELS:,}.")


def _check_affine(affine: Any, source: Any) -> tuple[Affine, str]:
    """Check that an affine tells left from right; returns it with the letters of its axes."""
    nibabel = import_nibabel(f"{source} is NIfTI, which")
    matrix: Affine = np.zeros((4, 4)) if affine is None else np.asarray(affine, np.float64)
    letters: tuple[str | None, ...] = nibabel.aff2axcodes(matrix) if np.isfinite(matrix).all() else (None,)
    if None in letters or abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
        raise InputError(
            f"{source} has an affine that places all voxels in one plane, so left and right are unknown; write one "
            "with nibabel.Nifti1Image(values, affine)."
        )
    return matrix, "".join(map(str, letters))
