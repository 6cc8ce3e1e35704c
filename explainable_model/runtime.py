"""``load(path)`` opens an artifact of any format. ONNX needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explainable_model.artifact.detecting import Detecting
from explainable_model.artifact.limits import refuse_holes
from explainable_model.artifact.metadata import Metadata, parse_metadata
from explainable_model.artifact.runner import Array, PredictingRunner, Runner
from explainable_model.artifact.shapes import array_dtype, format_shape, shape_problem
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explanation import PREDICTED, DrawnExplanation, Explanation, as_detections, as_explanation
from explainable_model.exporters import format_of
from explainable_model.exporters.format import Format
from explainable_model.exporters.opening import find_companion, open_artifact
from explainable_model.imaging.arrays import as_array
from explainable_model.paths import as_path


class Session(Detecting[NDArray[Any]]):
    """An artifact in its own runtime, which is called like ``ExplainableModel``, with NumPy arrays. Made by ``load``.

    A pickled session is the path and the options of ``load``: the other process opens the file again.

    Attributes:
        path: the file.
        metadata: the artifact's metadata.
        runner: the artifact as a function of checked arrays.
    """

    def __init__(self, path: Path, metadata: Metadata, runner: Runner, **options: Any) -> None:
        self.path = path
        self.metadata = metadata
        self.runner = runner
        self._options = options

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self.path.absolute()), self._options)

    def __call__(
        self, image: ArrayLike, class_idx: ArrayLike | None = None, *inputs: ArrayLike
    ) -> Explanation[NDArray[Any]] | DrawnExplanation[NDArray[Any]]:
        """Predict and explain.

        Args:
            image: ``(N, C, *spatial)``, an array or CPU tensor in the artifact's dtype; photos of any size for an
                artifact that prepares them (``metadata.pixels``): uint8 RGB, or gray of ``metadata.pixel_dtype``.
            class_idx: ``(N,)`` int64 (``(N, k)`` with ``top_k=k``), the classes to explain; ``-1`` or ``None`` for
                the predicted class. A list works too, and one number stands for every image.
            inputs: the other inputs of the network and the target, as in ``metadata.extra_inputs``.

        Returns:
            ``Explanation(logits, class_idx, cam)`` of NumPy arrays; ``DrawnExplanation``, with ``overlay``, from an
            artifact that draws; ``DetectionExplanation(detections, cam)`` from a detector's.

        Raises:
            InputError: the shape, dtype or batch size is not the artifact's, a value is not finite, or a class is out
                of range.
        """
        outputs = self.runner(*self._check_all(image, class_idx, inputs))
        if self.metadata.detection is not None:
            return cast(Explanation[NDArray[Any]], as_detections(outputs))
        return as_explanation(outputs).with_kind(self.metadata.output_kind)

    def predict(self, image: ArrayLike, *inputs: ArrayLike) -> NDArray[Any]:
        """Predict without a map. ONNX Runtime leaves out what the map needs; the other runtimes compute it.

        Args:
            image: as of a call.
            inputs: as of a call.

        Returns:
            ``(N, classes)``, the logits of a call.

        Raises:
            InputError: as a call, and for a detector's artifact, whose call returns the boxes.
        """
        if self.metadata.detection is not None:
            raise InputError(f"{self.path.name} finds boxes; call the session, whose answer has them: session(image).")
        arrays = self._check_all(image, None, inputs)
        if isinstance(self.runner, PredictingRunner):
            return self.runner.predict(*arrays)
        return self.runner(*arrays)[0]

    def _check_all(self, image: ArrayLike, class_idx: ArrayLike | None, inputs: Sequence[ArrayLike]) -> list[Array]:
        """The arrays that the runner takes: the image, the classes, and the other inputs."""
        checked = self._check_image(as_array(image, "image"))
        shape = (len(checked), *(int(n or 1) for n in self.metadata.class_idx_shape[1:]))
        classes = _to_classes(PREDICTED if class_idx is None else class_idx, shape)
        others = self._check_inputs([as_array(values, "an input") for values in inputs], len(checked))
        return [checked, self._check_class_idx(classes, shape), *others]

    def _check_image(self, image: Array) -> Array:
        expected = self.metadata.image_shape
        pixels, dtype = self.metadata.pixels, self.metadata.array_dtype
        problem = shape_problem(image.shape, expected, self.metadata.sizes, pixels)
        if problem is not None:
            shape = format_shape(expected, pixels)
            raise InputError(f"image has shape {image.shape}; {self.path.name} expects {shape}{problem}.")
        if str(image.dtype) != dtype:
            hint = f"image.astype('{dtype}') after scaling and normalization" if pixels is None else "photos as decoded"
            raise InputError(f"image is {image.dtype}; {self.path.name} expects {dtype}: {hint}.")
        if not np.isfinite(image).all():
            raise InputError("image has NaN or infinite values; expected finite ones.")
        return np.ascontiguousarray(image)

    def _check_inputs(self, inputs: list[Array], batch: int) -> list[Array]:
        expected = self.metadata.extra_inputs
        if len(inputs) != len(expected):
            raise InputError(f"{len(inputs)} extra input(s) given; {self.path.name} takes {len(expected)}: {expected}.")
        for number, (array, want) in enumerate(zip(inputs, expected, strict=True)):
            if list(array.shape) != [batch, *want["shape"][1:]] or str(array.dtype) != array_dtype(want["dtype"]):
                raise InputError(
                    f"Extra input {number} is {array.dtype} of shape {array.shape}; {self.path.name} expects "
                    f"{want['dtype']} of shape ({batch}, {', '.join(map(str, want['shape'][1:]))})."
                )
        return [np.ascontiguousarray(array) for array in inputs]

    def _check_class_idx(self, class_idx: Array, shape: tuple[int, ...]) -> NDArray[np.int64]:
        if class_idx.dtype != np.int64 or class_idx.shape != shape:
            count = "one class per image" if len(shape) == 1 else f"{shape[1]} classes per image"
            raise InputError(
                f"class_idx is {class_idx.dtype} of shape {class_idx.shape}; expected int64 of shape {shape}, "
                f"{count}, {PREDICTED} for the predicted one."
            )
        classes = self.metadata.classes
        outside = class_idx[(class_idx < PREDICTED) | (class_idx >= classes)]
        if outside.size:
            if self.metadata.detection is not None:
                raise InputError(
                    f"class_idx {outside[0]} is out of range; {self.path.name} finds {classes} boxes: expected a rank "
                    f"from 0 to {classes - 1}, or {PREDICTED} for the boxes of the best scores."
                )
            raise InputError(
                f"class_idx {outside[0]} is out of range; {self.path.name} has {classes} class(es): expected 0 to "
                f"{classes - 1}, or {PREDICTED} for the predicted class."
            )
        return np.ascontiguousarray(class_idx)


def _to_classes(class_idx: ArrayLike, shape: tuple[int, ...]) -> Array:
    """The classes as an array, integers as int64; without ``top_k``, one number stands for all images."""
    classes = as_array(class_idx, "class_idx")
    if classes.dtype.kind in "iu":
        classes = classes.astype(np.int64)
    whole = classes.ndim == 0 and (len(shape) == 1 or classes == PREDICTED)
    return np.full(shape, classes) if whole else classes


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    device: str | None = None,
    check: bool = False,
    trusted: bool = False,
) -> Session:
    """Open an artifact in its own runtime.

    Args:
        path: a file made by ``export``; the suffix tells the format.
        threads: how many threads the runtime may use; ``None`` leaves the number to the runtime. For TorchScript and
            torch.export this is ``torch.set_num_threads``, which holds for the whole process.
        device: where it runs, such as ``cuda:0``, for TorchScript; ``None`` for the CPU.
        check: compare the file with the checksum in its metadata, which shows a change of any bit. An artifact of two
            files is always compared.
        trusted: whether the file comes from someone who may run code here. Without it, a file is refused that holds
            machine code (``.aoti.pt2``, ``.pte``), or of which the check cannot tell that it runs no code of its own.

    Raises:
        ArtifactError: the file is missing, damaged, foreign or of a newer schema, its suffix is unknown, it is not what
            its metadata describes, or ``check`` finds another checksum or none.
        UntrustedArtifactError: the file could run code, and ``trusted`` is not given.
        MissingRuntimeError: the runtime is not installed.
        InputError: a device for a format that runs on the CPU alone.

    Example:
        >>> session = load("resnet50.onnx")                        # doctest: +SKIP
        >>> logits, class_idx, cam = session(image)                # doctest: +SKIP
    """
    path, fmt = find_artifact(path)
    runner, metadata = open_artifact(path, fmt, threads, device, check=check, trusted=trusted)
    return Session(path, metadata, runner, threads=threads, device=device, check=check, trusted=trusted)


def _reopen(path: str, options: dict[str, Any]) -> Session:
    return load(path, **options)


def read_metadata(path: str | Path) -> Metadata:
    """The metadata of an artifact of any format.

    Raises:
        ArtifactError: as ``load``.
    """
    path, fmt = find_artifact(path)
    return parse_metadata(fmt.read_metadata(path), path)


def find_artifact(path: str | Path) -> tuple[Path, Format]:
    """The path of an artifact, and its format.

    Raises:
        ArtifactError: there is no such file, its suffix is unknown, or it consists of holes.
    """
    path = as_path(path)
    fmt = format_of(path)
    if not path.is_file():
        raise ArtifactError(f"There is no artifact {path}.")
    if path.is_symlink() and find_companion(path, fmt) is None and find_companion(path.resolve(), fmt) is not None:
        path = path.resolve()  # the link leads to an artifact of two files
    companion = find_companion(path, fmt)
    for file in (path,) if companion is None else (path, companion):
        refuse_holes(file)
    return path, fmt
