"""How much an artifact's record may ask for, so that a false number cannot take all memory."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from explainable_model.artifact.coarse_photo import find_coarse_problem
from explainable_model.artifact.shapes import NHW, shape_problem
from explainable_model.errors import ArtifactError, InputError
from explainable_model.imaging.window import find_values

MAX_VALUES = 2**28
"""The largest number of values in one input or output: 1 GiB in float32."""

MAX_SIDE = 2**16
"""The largest height, width or depth, and the largest batch size."""

MAX_CLASSES = 2**24

MAX_CONSTANT = 2**28
"""The most bytes of a constant that a runtime may compute from others while it loads a file with fewer weights."""

MAX_WORK = 2**35
"""The most bytes that a call on one image of the recorded size may take: 32 GiB."""

MAX_RECORD = 2**24
"""The longest text of a record: parsed, a text of short lists takes twenty times its length."""

LONG_FILE = 2**30
MAX_PIECES = 10_000  # of a file with holes


def refuse_holes(path: Path) -> None:
    """Refuse a file that is gigabytes long and holds little: whoever reads it would get zeros for hours.

    Raises:
        ArtifactError: more than half of a file beyond ``LONG_FILE`` bytes are holes, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            length = os.fstat(file.fileno()).st_size
            held = _count_held(file.fileno(), length) if length > LONG_FILE else length
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror or error}).") from error
    if 2 * held < length:
        raise ArtifactError(f"{path} is damaged: it is {length} bytes long and holds {held}; export it again.")


def _count_held(file: int, length: int) -> int:
    """The bytes that a file holds, where the system tells; more than ``MAX_PIECES`` pieces are not added up."""
    held, position = 0, 0
    for _ in range(MAX_PIECES if hasattr(os, "SEEK_DATA") else 0):
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole follows
            return held
        position = os.lseek(file, start, os.SEEK_HOLE)
        held += position - start
        if position >= length:
            return held
    return length


def check_volume(shape: Sequence[int], copies: int, name: object) -> None:
    """Refuse to repeat an image to a fixed batch size that takes too much memory.

    Raises:
        InputError: the copies have more than ``MAX_VALUES`` values.
    """
    if math.prod(shape) * copies > MAX_VALUES:
        raise InputError(
            f"{name} takes {copies} images at once, which at {tuple(shape)} are more than {MAX_VALUES} values; give a "
            "smaller photo, or export without a fixed batch."
        )


def find_excess(metadata: Any) -> str:
    """Check the numbers of a record against the limits and against each other.

    Args:
        metadata: the record, a ``Metadata``, whose values may have any type.

    Returns:
        An empty string where they hold, else which one does not, and what was expected.
    """
    try:
        return next(_find_problems(metadata), "")
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        return f"a value has another type or length than expected ({error})"


def _find_problems(metadata: Any) -> Iterator[str]:
    yield from _check_count("classes", metadata.classes, MAX_CLASSES)
    if metadata.top_k is not None:
        yield from _check_count("top_k", metadata.top_k, metadata.classes)
    named = metadata.class_names is not None and metadata.detection is None  # a detector names the classes of boxes
    if named and len(metadata.class_names) != metadata.classes:
        yield f"it has {len(metadata.class_names)} class_names for {metadata.classes} classes"
    batch = metadata.batch or 1
    shapes = {"image": metadata.image_shape, "logits": metadata.logits_shape, "cam": metadata.cam_shape}
    shapes |= {f"extra input {n}": extra["shape"] for n, extra in enumerate(metadata.extra_inputs)}
    for name, shape in shapes.items():
        yield from _check_shape(name, shape, metadata.batch)
    for size in metadata.sizes or ():
        yield from _check_count("the smallest size", size.minimum, MAX_SIDE)
        yield from _check_count("the multiple of sizes", size.multiple, MAX_SIDE)
    yield from _check_preprocess(metadata, batch)
    if metadata.reference is not None:
        for side in metadata.reference.size or ():
            yield from _check_count("a side of the reference image", side, MAX_SIDE)
        yield from _check_volume("the reference image", [max(batch, 2), *metadata.example_shape])
        photo = metadata.reference.photo
        problem = "" if photo is None else find_coarse_problem(photo, metadata.example_shape, metadata.pixels)
        if problem:
            yield problem


def _check_shape(name: str, shape: Sequence[int | None], batch: int | None) -> Iterator[str]:
    if not shape:
        yield f"the shape of {name} is empty"
    for dimension in shape:
        if dimension is not None:
            yield from _check_count(f"a dimension of {name}", dimension, MAX_CLASSES)
    if shape[0] is not None:
        yield from _check_count(f"the batch of {name}", shape[0], MAX_SIDE)
    if shape[0] != batch:
        yield f"the batch of {name} is {shape[0]}, and that of the image is {batch}"
    yield from _check_volume(name, [n or 1 for n in shape])


def _check_preprocess(metadata: Any, batch: int) -> Iterator[str]:
    preprocess, rank = metadata.preprocess, 3 if metadata.pixels == NHW else 4
    if metadata.pixels is not None and len(metadata.image_shape) != rank:
        yield f"the image has {len(metadata.image_shape)} dimensions, and its layout is {metadata.pixels}"
    if preprocess is None:
        if metadata.pixel_dtype != "uint8":
            yield f"photos of {metadata.pixel_dtype} have no preprocess"
        return
    for side in preprocess.size:
        yield from _check_count("a side of preprocess.size", side, MAX_SIDE)
    if preprocess.resize is not None:
        yield from _check_count("preprocess.resize", preprocess.resize, MAX_SIDE)
    if not all(map(math.isfinite, (*preprocess.mean, *preprocess.std))):
        yield "preprocess has a mean or std that is not finite"
    if metadata.pixel_dtype != "uint8":
        if metadata.pixels != NHW or preprocess.window is None:
            yield f"photos of {metadata.pixel_dtype} are gray ({NHW}) and have a window"
        else:
            find_values(preprocess.window)  # a ValueError names the window
    shape = [batch, len(preprocess.mean), *preprocess.size]
    yield from _check_volume("the prepared image", shape)
    if metadata.pixels is None and shape_problem(shape, metadata.image_shape, metadata.sizes) is not None:
        yield f"preprocess makes an image of shape {tuple(shape)}, and the artifact takes {tuple(metadata.image_shape)}"


def _check_count(name: str, value: Any, most: int) -> Iterator[str]:
    if type(value) is not int or not 1 <= value <= most:
        yield f"{name} is {value!r:.40}, expected a whole number from 1 to {most}"


def _check_volume(name: str, shape: Sequence[int]) -> Iterator[str]:
    if math.prod(shape) > MAX_VALUES:
        yield f"{name} has the shape {tuple(shape)}, which is more than {MAX_VALUES} values"
