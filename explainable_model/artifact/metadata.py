"""What an artifact says about itself: one JSON text, the same in every format. Needs no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from explainable_model.errors import ArtifactError
from explainable_model.explanation import (
    CAM,
    CLASS_IDX,
    EXPLAINED_CLASS_IDX,
    IMAGE,
    LOGITS,
    OVERLAY,
    PREDICTED,
    input_names,
)
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import AsDecoded, Preprocess

SCHEMA_VERSION = 1
METADATA_KEY = "explainable_model.json"
Precision: TypeAlias = Literal["float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Profile: TypeAlias = Literal["full", "portable"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
SPATIAL = ("depth", "height", "width")
NCHW, NHWC = "NCHW", "NHWC"
PIXELS = (NCHW, NHWC)  # how photos are laid out


@dataclass(frozen=True)
class Reference:
    """The artifact's answer to a fixed image, so that any device can check its own.

    The image is ``sin(i + n)`` for element i of image n, counted over (C, *spatial); extra inputs likewise.

    Attributes:
        size: spatial size of the image.
        class_idx: the predicted class of each image, or its ``top_k`` classes.
        logits: up to 16 values of each image's logits, at equal distances.
        cam: each map reduced to its mean over an 8 x 8 grid of cells, row by row.
        logits_tolerance, cam_tolerance: how much a device may differ.
    """

    class_idx: list[int] | list[list[int]]
    logits: list[list[float]]
    cam: list[list[float]]
    logits_tolerance: float
    cam_tolerance: float
    size: list[int] | None = None


@dataclass(frozen=True)
class SizeRange:
    """The sizes that an artifact takes along one open dimension of the image.

    Attributes:
        minimum: the smallest.
        multiple: what every size is a multiple of.
    """

    minimum: int
    multiple: int = 1

    def allows(self, size: int) -> bool:
        """Whether the artifact takes this size."""
        return size >= self.minimum and size % self.multiple == 0

    def __str__(self) -> str:
        return f"{self.minimum} or more" + (f", a multiple of {self.multiple}" if self.multiple > 1 else "")


def array_dtype(dtype: str) -> str:
    """A dtype as NumPy has it, which has no bfloat16: float32 stands for it."""
    return "float32" if dtype == "bfloat16" else dtype


def spatial(shape: Sequence[Any], pixels: str | None = None) -> list[Any]:
    """The spatial dimensions among those of an image, or of photos in that layout."""
    return list(shape[1:3] if pixels == NHWC else shape[2:])


def shape_problem(
    shape: Sequence[int],
    expected: Sequence[int | None],
    sizes: Sequence[SizeRange] | None,
    pixels: str | None = None,
) -> str | None:
    """What is wrong with an image of this shape: a hint, perhaps empty; ``None`` where nothing is.

    Args:
        shape: of the image.
        expected: the same, with ``None`` where it is open.
        sizes: of the open spatial dimensions.
        pixels: layout of photos.
    """
    fits = len(shape) == len(expected) and all(w in (None, n) for w, n in zip(expected, shape, strict=True))
    if not fits or 0 in shape:
        return ""
    for name, size, allowed in zip(SPATIAL[-len(shape) + 2 :], spatial(shape, pixels), sizes or (), strict=False):
        if not allowed.allows(size):
            return f" with a {name} of {allowed}"
    return None


def dimension_names(ndim: int, pixels: str | None = None) -> list[str]:
    """``batch``, ``channels``, ``height`` and so on, in their order."""
    names = list(SPATIAL[-ndim + 2 :])
    return ["batch", *names, "channels"] if pixels == NHWC else ["batch", "channels", *names]


def format_shape(shape: Sequence[int | None], pixels: str | None = None) -> str:
    """A shape with open dimensions as in the documentation: ``(N, 3, H, W)``."""
    names = ["N" if name == "batch" else name[0].upper() for name in dimension_names(len(shape), pixels)]
    return "(" + ", ".join(name if n is None else str(n) for n, name in zip(shape, names, strict=True)) + ")"


@dataclass(frozen=True)
class Metadata:
    """Everything a program needs to feed an artifact and to read what it returns.

    Attributes:
        format: key of ``FORMATS``.
        model: class name of the network.
        method: key of ``METHODS``.
        options: of the method.
        passes: what the method runs besides one forward of the network.
        target_layers: names of the explained layers; none where a method explains at the image itself.
        call: which call of a layer that runs several times is explained, counted from 0; ``None`` or -1 for the last.
        fusion: how the maps of several layers become one.
        target: what is explained.
        top_k: how many classes of an image are explained at once; ``None`` for one.
        normalize, upsample, signed, shared_scale: see ``Postprocess``.
        cam_range: lowest and highest value of the maps, ``None`` for no bound.
        augment: whether maps are averaged over six copies of the image.
        image_shape: shape of the input; ``None`` for an open batch, height or width.
        dtype: of logits and cam, and of the image where it takes no photos.
        pixels: layout of the photos (uint8, RGB, of any size) that it takes as they are and prepares itself: ``NCHW``
            or ``NHWC``; ``None`` where the image is the network's own input.
        look: how it draws the photo under its map as a fourth output; ``None`` where it draws nothing.
        classes: how many classes can be explained.
        logits_shape: shape of the prediction; ``None`` where it follows an open batch, height or width.
        sizes: which sizes are accepted, for each spatial dimension; ``None`` where they are fixed.
        cam_shape: shape of the maps; ``None`` for an open batch, height or width.
        extra_inputs: shape and dtype of each further input.
        preprocess: from pixels to input, if known.
        class_names: one per class, if known.
        reference: the answer to a fixed image.
        precision: the coarsest type that it computes in: ``float16`` or ``int8`` where the artifact was made so,
            while image, logits and cam stay ``dtype``.
        agreement: how far such an artifact says the same as in float32, see ``Agreement``.
        profile: ``portable`` where only the operators of that profile are used, else ``full``.
        versions: of what made the artifact.
        schema_version: of this record.
    """

    format: str
    model: str
    method: str
    options: Mapping[str, Any]
    passes: str
    target_layers: list[str]
    fusion: str
    target: str
    top_k: int | None
    normalize: str
    upsample: str
    signed: bool
    shared_scale: bool
    cam_range: list[float | None]
    augment: bool
    image_shape: list[int | None]
    dtype: str
    classes: int
    logits_shape: list[int | None]
    cam_shape: list[int | None]
    sizes: list[SizeRange] | None = None
    pixels: str | None = None
    look: OverlayStyle | None = None
    extra_inputs: list[dict[str, Any]] = field(default_factory=list)
    preprocess: Preprocess | None = None
    class_names: list[str] | None = None
    reference: Reference | None = None
    precision: str = "float32"
    agreement: Mapping[str, Any] | None = None
    call: int | None = None
    profile: Profile = "full"
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def target_layer(self) -> str:
        """Names of the explained layers, in one text."""
        return ", ".join(self.target_layers)

    @property
    def diverging(self) -> bool:
        """Whether zero lies in the middle of what the maps can be, see ``Postprocess``."""
        return self.cam_range[0] != 0

    @property
    def class_idx_shape(self) -> list[int | None]:
        """Shape of the class index; ``None`` for an open batch."""
        return [self.batch] if self.top_k is None else [self.batch, self.top_k]

    @property
    def batch(self) -> int | None:
        """The only batch size accepted, or ``None`` for any."""
        return self.image_shape[0]

    @property
    def array_dtype(self) -> str:
        """The dtype of the image as a NumPy array."""
        return array_dtype(self.image_dtype)

    @property
    def preparation(self) -> Preprocess | AsDecoded | None:
        """What makes the image of a photo, if known: nothing needs to be done for an artifact that takes photos."""
        return self.preprocess if self.pixels is None else AsDecoded(self.pixels)

    @property
    def image_dtype(self) -> str:
        """The dtype of the image."""
        return self.dtype if self.pixels is None else "uint8"

    @property
    def example_shape(self) -> list[int]:
        """Shape without the batch of the image that the artifact was made with."""
        size = list(self.reference.size or ()) if self.reference is not None else []
        return [int(size.pop(0) if n is None else n) for n in self.image_shape[1:]]

    @property
    def network_shape(self) -> list[int]:
        """Shape without the batch of an image as the network takes it."""
        if self.pixels is None or self.preprocess is None:
            return self.example_shape
        return [len(self.preprocess.mean), *self.preprocess.size]

    def to_dict(self) -> dict[str, Any]:
        """The record with what follows from it: names, shapes, dtypes and ranges of inputs and outputs."""
        record = asdict(self)
        record["target_layer"] = self.target_layer
        names = input_names(len(self.extra_inputs))
        record["inputs"] = {
            IMAGE: {"shape": self.image_shape, "dtype": self.image_dtype, "range": self._value_range()},
            CLASS_IDX: {"shape": self.class_idx_shape, "dtype": "int64", "range": [PREDICTED, self.classes - 1]},
            **{name: {**extra, "range": None} for name, extra in zip(names[2:], self.extra_inputs, strict=True)},
        }
        record["outputs"] = {
            LOGITS: {"shape": self.logits_shape, "dtype": self.dtype, "range": None},
            EXPLAINED_CLASS_IDX: {"shape": self.class_idx_shape, "dtype": "int64", "range": [0, self.classes - 1]},
            CAM: {"shape": self.cam_shape, "dtype": self.dtype, "range": self.cam_range},
        }
        if self.look is not None:
            shape = [*self.class_idx_shape, *self.image_shape[1:]]
            record["outputs"][OVERLAY] = {"shape": shape, "dtype": "uint8", "range": [0, 255]}
        record["batch_rule"] = "any" if self.batch is None else f"exactly {self.batch}"
        return record

    def _value_range(self) -> list[float] | None:
        if self.pixels is not None:
            return [0, 255]
        return list(self.preprocess.value_range) if self.preprocess else None

    def to_json(self) -> str:
        """The record as JSON text."""
        return json.dumps(self.to_dict())


def parse_metadata(text: str, path: Path) -> Metadata:
    """The record in an artifact's text.

    Raises:
        ArtifactError: not our record, or one of a newer schema.
    """
    try:
        record = json.loads(text)
        version = record["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} has metadata that cannot be read ({error}); export it again.") from error
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has metadata of schema {version}; this version reads up to {SCHEMA_VERSION}. "
            "Upgrade explainable-model, or export the artifact with this version."
        )
    try:
        known = {name: record[name] for name in Metadata.__dataclass_fields__ if name in record}
        if known.get("preprocess"):
            fields = known["preprocess"]
            tuples = {name: tuple(fields[name]) for name in ("size", "mean", "std")}
            known["preprocess"] = Preprocess(**{**fields, **tuples})
        if known.get("sizes"):
            known["sizes"] = [SizeRange(**size) for size in known["sizes"]]
        if known.get("look"):
            known["look"] = OverlayStyle(**known["look"])
        if known.get("reference"):
            known["reference"] = Reference(**known["reference"])
        return Metadata(**known)
    except (TypeError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path} has incomplete metadata ({error}); export it again.") from error
