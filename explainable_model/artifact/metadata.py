"""What an artifact says about itself: one JSON text, the same in every format. Needs no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from explainable_model.artifact.answer import Reference
from explainable_model.artifact.coarse_photo import CoarsePhoto
from explainable_model.artifact.limits import MAX_RECORD, find_excess
from explainable_model.artifact.record_check import check_record
from explainable_model.artifact.shapes import NHW, SizeRange, array_dtype, box_outputs
from explainable_model.errors import ArtifactError
from explainable_model.explanation import (
    CAM,
    CLASS_IDX,
    EXPLAINED_CLASS_IDX,
    IMAGE,
    LOGITS,
    OVERLAY,
    PREDICTED,
    PRESENT,
    OutputKind,
    input_names,
)
from explainable_model.imaging.as_decoded import AsDecoded
from explainable_model.imaging.overlay import OverlayStyle
from explainable_model.imaging.preprocess import Preprocess

SCHEMA_VERSION = 1
INT32_FORMATS = ("litert",)  # whose runtimes have few operators for int64
METADATA_KEY = "explainable_model.json"
Precision: TypeAlias = Literal["float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Profile: TypeAlias = Literal["full", "portable"]
PROFILES: tuple[Profile, ...] = get_args(Profile)
_RENAMED = {"worst": "min_correlation"}  # fields of ``agreement`` by their names in earlier versions


@dataclass(frozen=True)
class Metadata:
    """Everything a program needs to feed an artifact and to read what it returns.

    Attributes:
        format: key of ``FORMATS``.
        model: class name of the network.
        method: key of ``METHODS``.
        options: options of the method.
        passes: what the method runs besides one forward pass of the network.
        target_layers: names of the explained layers; empty where a method explains at the image itself.
        call: which call of a layer that runs several times is explained, counted from 0; ``None`` or -1 for the last.
        frames: the axis of the image's frames; ``None`` for an image without.
        forward: names of the network's parameters for the image and the extra inputs, in parentheses the name of a
            function that calls it; ``None`` where they go by position.
        fusion: how the maps of several layers become one.
        target: the score that is explained.
        top_k: how many classes of an image are explained at once; ``None`` for one.
        normalize, upsample, signed, shared_scale: see ``Postprocess``.
        cam_range: lowest and highest value of the maps, ``None`` for no bound.
        augment: whether maps are averaged over six copies of the image.
        smooth: how many noisy copies of the image maps are averaged over, and the noise's standard deviation as a share
            of the image's range; ``None`` where they are of the image alone.
        image_shape: shape of the input; ``None`` for an open batch, height or width.
        dtype: dtype of logits and cam, and of the image where the artifact takes no photos.
        pixels: layout, ``NCHW`` or ``NHWC``, of the photos (RGB, of any size) that the artifact prepares itself,
            ``NHW`` of gray ones; ``None`` where the image is the network's own input.
        pixel_dtype: type of the photos: ``uint8``, or ``uint16`` to which the artifact applies ``preprocess.window``.
        look: how the artifact draws the map over the photo as a fourth output; ``None`` where it draws nothing.
        classes: how many classes can be explained.
        logits_shape: shape of the prediction; ``None`` where a dimension depends on an open batch, height or width.
        sizes: the accepted sizes of each spatial dimension; ``None`` where the size is fixed.
        cam_shape: shape of the maps; ``None`` for an open batch, height or width.
        extra_inputs: shape and dtype of each further input.
        input_names: names of the graph's inputs where they are not those of every artifact (``image``, ``input_0``):
            those of the ONNX file that an ONNX artifact was read from.
        preprocess: how a photo becomes the input, if known.
        class_names: one name per class, if known.
        reference: the answer to a fixed image.
        precision: the coarsest type that the artifact computes in: ``float16`` or ``int8`` where it was exported
            in that precision; image, logits and cam stay ``dtype``.
        agreement: how far an artifact in that precision agrees with the one in float32, see ``Agreement``.
        profile: ``portable`` where the graph uses the operators of that profile only, else ``full``.
        opset: version of ONNX's operators; ``None`` in other formats, and in artifacts of earlier versions.
        output_kind: how the output is read as probabilities, see ``OutputKind``; ``None`` where nothing says so, as
            in artifacts of earlier versions: show scores then, no percentages.
        checksum: ``sha256:`` and the SHA-256 of the artifact's files, see ``artifact.checksum``; ``None`` in artifacts
            of earlier versions.
        threshold: smallest probability at which a class counts as present, where each is present or absent by itself.
        detection: for a detector ``task``, ``family``, ``score``, ``score_threshold``, ``iou_threshold``,
            ``max_boxes`` (which ``classes`` is, too) and ``region``; its ``logits_shape`` is that of the boxes.
        versions: versions of the packages that made the artifact.
        schema_version: version of this record.
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
    pixel_dtype: str = "uint8"
    look: OverlayStyle | None = None
    extra_inputs: list[dict[str, Any]] = field(default_factory=list)
    input_names: Mapping[str, str] = field(default_factory=dict)
    preprocess: Preprocess | None = None
    class_names: list[str] | None = None
    reference: Reference | None = None
    precision: str = "float32"
    agreement: Mapping[str, Any] | None = None
    call: int | None = None
    frames: int | None = None
    forward: list[str] | str | None = None
    profile: Profile = "full"
    opset: int | None = None
    output_kind: OutputKind | None = None
    checksum: str | None = None
    threshold: float = PRESENT
    smooth: Sequence[float] | None = None
    detection: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def target_layer(self) -> str:
        """Names of the explained layers, joined by commas."""
        return ", ".join(self.target_layers)

    @property
    def diverging(self) -> bool:
        """Whether the maps can be negative, so that zero lies in the middle of their range."""
        return self.cam_range[0] != 0

    @property
    def class_idx_shape(self) -> list[int | None]:
        """Shape of the class index; ``None`` for an open batch."""
        return [self.batch] if self.top_k is None else [self.batch, self.top_k]

    @property
    def index_dtype(self) -> str:
        """The dtype of classes in the file; ``Session`` takes and returns int64 always."""
        return "int32" if self.format in INT32_FORMATS else "int64"

    @property
    def batch(self) -> int | None:
        """The only accepted batch size, or ``None`` for any."""
        return self.image_shape[0]

    @property
    def array_dtype(self) -> str:
        """The dtype of the image as a NumPy array."""
        return array_dtype(self.image_dtype)

    @property
    def preparation(self) -> Preprocess | AsDecoded | None:
        """How a photo becomes the image, if known; an artifact that takes photos takes them as decoded."""
        if self.pixels is None:
            return self.preprocess
        return AsDecoded(self.pixels, self.preprocess.window if self.preprocess else None, self.pixel_dtype)

    @property
    def image_dtype(self) -> str:
        """The dtype of the image."""
        return self.dtype if self.pixels is None else self.pixel_dtype

    @property
    def example_shape(self) -> list[int]:
        """Shape of the example image that the artifact was made with, without the batch."""
        size = list(self.reference.size or ()) if self.reference is not None else []
        return [int(size.pop(0) if n is None else n) for n in self.image_shape[1:]]

    @property
    def input_shapes(self) -> dict[str, list[int]]:
        """The shape of each input where the batch and the image are as small as the artifact was made with."""
        rows = self.to_dict()["inputs"]
        shapes = {name: [n or 1 for n in row["shape"]] for name, row in rows.items()}
        known = self.reference is not None and self.reference.size is not None
        if known or None not in self.image_shape[1:]:
            shapes[IMAGE] = [self.batch or 1, *self.example_shape]
        return shapes

    @property
    def network_shape(self) -> list[int]:
        """Shape of an image as the network takes it, without the batch."""
        if self.pixels is None or self.preprocess is None:
            return self.example_shape
        return [len(self.preprocess.mean), *self.preprocess.size]

    @property
    def graph_inputs(self) -> list[str]:
        """Names of the graph's inputs: the image, the class index, the further ones."""
        return [self.input_names.get(name, name) for name in input_names(len(self.extra_inputs))]

    def to_dict(self) -> dict[str, Any]:
        """The record, and the names, shapes, dtypes and ranges of inputs and outputs that follow from it."""
        record = asdict(self)
        record["target_layer"] = self.target_layer
        names, classes = input_names(len(self.extra_inputs)), [0, self.classes - 1]
        record["inputs"] = {
            IMAGE: {"shape": self.image_shape, "dtype": self.image_dtype, "range": self._value_range()},
            CLASS_IDX: {
                "shape": self.class_idx_shape,
                "dtype": self.index_dtype,
                "range": [PREDICTED, self.classes - 1],
            },
            **{name: {**extra, "range": None} for name, extra in zip(names[2:], self.extra_inputs, strict=True)},
        }
        for name in record["inputs"].keys() & self.input_names.keys():
            record["inputs"][name]["name"] = self.input_names[name]
        record["outputs"] = (
            box_outputs(self.logits_shape, self.cam_shape, self.dtype, self.cam_range)
            if self.detection is not None
            else {
                LOGITS: {"shape": self.logits_shape, "dtype": self.dtype, "range": None},
                EXPLAINED_CLASS_IDX: {"shape": self.class_idx_shape, "dtype": self.index_dtype, "range": classes},
                CAM: {"shape": self.cam_shape, "dtype": self.dtype, "range": self.cam_range},
            }
        )
        if self.look is not None:
            shape = [*self.class_idx_shape, *self.image_shape[1:], *([3] if self.pixels == NHW else [])]
            record["outputs"][OVERLAY] = {"shape": shape, "dtype": "uint8", "range": [0, 255]}
        record["batch_rule"] = "any" if self.batch is None else f"exactly {self.batch}"
        return record

    def _value_range(self) -> list[float] | None:
        if self.pixels is not None:
            return [0, 255 if self.pixel_dtype == "uint8" else 65535]
        return list(self.preprocess.value_range) if self.preprocess else None

    def to_json(self) -> str:
        """The record as JSON text."""
        return json.dumps(self.to_dict())


def parse_metadata(text: str, path: Path) -> Metadata:
    """The record in an artifact's metadata text.

    Raises:
        ArtifactError: the text is no record of this library, or one of a newer schema.
    """
    if len(text) > MAX_RECORD:
        raise ArtifactError(f"{path} has metadata of {len(text)} characters, more than {MAX_RECORD}; export it again.")
    try:
        record = json.loads(text)
        version = record["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} has metadata that cannot be read ({error}); export it again.") from error
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has metadata of schema {version}; this version reads up to {SCHEMA_VERSION}. "
            "Upgrade explainable-model, or export the artifact with this version."
        )
    try:
        check_record(record)
        metadata = _restored(record)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} has incomplete metadata ({error}); export it again.") from error
    problem = find_excess(metadata)
    if problem:
        raise ArtifactError(f"{path} has metadata that no export writes: {problem}. Export it again.")
    return metadata


def _restored(record: Mapping[str, Any]) -> Metadata:
    fields = {name: record[name] for name in Metadata.__dataclass_fields__ if name in record}
    if fields.get("preprocess"):
        preprocess = fields["preprocess"]
        tuples = {name: tuple(preprocess[name]) for name in ("size", "mean", "std", "window") if preprocess.get(name)}
        fields["preprocess"] = Preprocess(**{**preprocess, **tuples})
    if fields.get("sizes"):
        fields["sizes"] = [SizeRange(**size) for size in fields["sizes"]]
    if fields.get("look"):
        fields["look"] = OverlayStyle(**fields["look"])
    if fields.get("reference"):
        reference = fields["reference"]
        photo = CoarsePhoto(**reference["photo"]) if reference.get("photo") else None
        fields["reference"] = Reference(**{**reference, "photo": photo})
    if fields.get("agreement"):
        fields["agreement"] = {_RENAMED.get(name, name): value for name, value in fields["agreement"].items()}
    return Metadata(**fields)
