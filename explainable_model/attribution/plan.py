"""The options of ``ExplainableModel`` in one record: the target, the method, and what is done to the map."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Unpack

from torch import Tensor, nn

from explainable_model.attribution.argument_values import (
    MAX_TOP_K,
    as_flag,
    as_lengths,
    as_noise,
    as_options,
    as_whole,
    describe,
)
from explainable_model.attribution.boxes import BoxScore, DetectionArguments, read_box_arguments
from explainable_model.attribution.calling import Caller, Forward, as_caller, record_caller
from explainable_model.attribution.layout import Order, PatchEmbedding, ReshapeTransform, find_orders, patch_embedding
from explainable_model.attribution.method import Fusion, Method
from explainable_model.attribution.options import is_record_of_images, record_option
from explainable_model.attribution.postprocess import Postprocess
from explainable_model.attribution.prediction import Select
from explainable_model.attribution.targets import ClassScore, Target, as_target, target_name

IMAGE_LAYER = ""
"""The name of the image, where it is listened to like a layer."""


ATTENTION_LAYERS = "@attention"
"""Stands for the attention probabilities of every block."""

ATTENTION_SCORES = "@attention.scores"
"""Stands for what goes into the softmax of every block's attention."""

ATTENTION_QUERIES, ATTENTION_KEYS = "@attention.queries", "@attention.keys"
ATTENTION_VALUES, ATTENTION_OUTPUTS = "@attention.values", "@attention.outputs"
"""Stand for what the attention of every block multiplies, and for what it returns before its projection."""

ATTENTION_TAPS = (
    ATTENTION_LAYERS,
    ATTENTION_SCORES,
    ATTENTION_QUERIES,
    ATTENTION_KEYS,
    ATTENTION_VALUES,
    ATTENTION_OUTPUTS,
)
"""Values of the attention of every block."""

BIASES = "@biases"
"""Stands for the bias of every operator between the image and the scores."""

GRAPH_TAPS = (*ATTENTION_TAPS, BIASES)
"""Values that the captured graph has and no layer returns."""


class PlanArguments(DetectionArguments, total=False):
    """The keyword arguments of ``ExplainableModel`` that shape an explanation; its docstring says what each does."""

    target: Target | Callable[..., Tensor] | None
    output: Select
    top_k: int | None
    normalize: bool | str
    upsample: bool | str
    signed: bool
    shared_scale: bool
    size: Sequence[int] | None
    augment: bool
    smooth: int | tuple[int, float] | None
    options: Mapping[str, Any] | None
    chunk_size: int
    reshape_transform: ReshapeTransform | None
    call: int | None
    frames: int | None
    forward: Forward


RECORDED_ARGUMENTS = (
    "method",
    "options",
    "top_k",
    "normalize",
    "upsample",
    "signed",
    "shared_scale",
    "fusion",
    "augment",
    "smooth",
    "call",
    "frames",
    "forward",
)


@dataclass(frozen=True)
class Plan:
    """Everything that shapes an explanation, except the network and the image.

    Attributes:
        model: class name of the network.
        method: how the map is made.
        layers: names of the target layers, in the order of their maps; empty for a method that needs none.
        fusion: how the maps of several layers become one.
        options: of the method.
        target: what is explained.
        output: which part of the network's output is the prediction.
        top_k: how many classes are explained at once; ``None`` for one class and maps without a class dimension.
        postprocess: what is done to the signed maps.
        augment: average over flipped and scaled copies of the image.
        smooth: average over noisy copies of the image: how many, and the noise's standard deviation as a share of the
            image's range; ``None`` for the image alone.
        chunk_size: how many copies of one image a method runs at once.
        side_taps: names of layers whose outputs the method needs besides those it explains.
        reshape_transform: from a layer's output to ``(N, K, *spatial)``.
        patches: the network's patch embedding, which tells the grid of its tokens.
        orders: of the layers whose type tells where their channels are.
        call: which call of a layer that runs several times is explained, counted from 0; ``-1`` or ``None`` for the
            last.
        frames: the axis of the image's frames, which the network may fold into the batch; ``None`` for none.
        forward: how the network is called; ``None`` for ``network(image, *inputs)``.
        has_rounded_means: whether some gradients of the layer have a spatial mean of zero up to rounding, as before
            instance normalization; a graph zeroes them where an eager run has shown such a mean.
    """

    model: str
    method: Method
    layers: tuple[str, ...]
    fusion: Fusion
    options: Mapping[str, Any] = field(default_factory=dict)
    target: Target = field(default_factory=ClassScore)
    output: Select = None
    top_k: int | None = None
    postprocess: Postprocess = field(default_factory=Postprocess)
    augment: bool = False
    smooth: tuple[int, float] | None = None
    chunk_size: int = 64
    side_taps: tuple[str, ...] = ()
    reshape_transform: ReshapeTransform | None = None
    patches: PatchEmbedding | None = None
    orders: Mapping[str, Order] = field(default_factory=dict)
    call: int | None = None
    frames: int | None = None
    forward: Caller = None
    has_rounded_means: bool = False

    @classmethod
    def from_arguments(
        cls,
        model: nn.Module,
        method: Method,
        layers: tuple[str, ...],
        fusion: Fusion,
        **arguments: Unpack[PlanArguments],
    ) -> "Plan":
        """The plan that the keyword arguments of ``ExplainableModel`` ask for.

        Args:
            model: the network.
            method: how the map is made.
            layers: names of the target layers.
            fusion: how the maps of several layers become one.
            arguments: see ``ExplainableModel``.

        Raises:
            TypeError: an argument that does not exist.
            ValueError: a value that no explanation can have, or an option that the method does not have.
        """
        _refuse_unknown(arguments)
        top_k, chunk_size = arguments.get("top_k"), arguments.get("chunk_size", cls.chunk_size)
        if top_k is not None:
            top_k = as_whole(top_k, "top_k", "how many classes to explain, or None for one", 1, MAX_TOP_K)
        chunk_size = as_whole(chunk_size, "chunk_size", "how many copies of an image to run at once", 1)
        return cls(
            model=getattr(model, "network_name", type(model).__name__),
            method=method,
            layers=layers,
            fusion=fusion,
            options=method.check_options(as_options(arguments.get("options"))),
            target=as_target(arguments.get("target")),
            output=arguments.get("output"),
            top_k=top_k,
            postprocess=_postprocess(arguments),
            augment=as_flag(arguments.get("augment"), "augment"),
            smooth=as_noise(arguments.get("smooth")),
            chunk_size=chunk_size,
            side_taps=method.side_taps,
            reshape_transform=arguments.get("reshape_transform"),
            patches=patch_embedding(model),
            orders=find_orders(model),
            call=_check_call(arguments.get("call")),
            frames=_check_frames(arguments.get("frames"), method),
            forward=as_caller(arguments.get("forward")),
        )

    @property
    def count(self) -> int:
        """How many classes of an image are explained."""
        return 1 if self.top_k is None else self.top_k

    @property
    def named_taps(self) -> tuple[str, ...]:
        """The layers that are listened to; those that are explained come last."""
        return (*self.side_taps, *self.layers)

    @property
    def tap_names(self) -> tuple[str, ...]:
        """Everything that is listened to: the image where it is, then the layers."""
        return (*((IMAGE_LAYER,) if self.method.needs_image else ()), *self.named_taps)

    def to_record(self) -> dict[str, Any]:
        """The plan as an artifact's metadata stores it; ``arguments_of`` reads it back."""
        return {
            "model": self.model,
            "method": self.method.name,
            "options": {name: record_option(value) for name, value in {**self.method.options, **self.options}.items()},
            "passes": self.method.passes,
            "target_layers": list(self.layers),
            "call": self.call,
            "frames": self.frames,
            "forward": record_caller(self.forward),
            "fusion": self.fusion.name,
            "target": target_name(self.target),
            "top_k": self.top_k,
            "normalize": self.postprocess.normalize,
            "upsample": self.postprocess.upsample,
            "signed": self.postprocess.signed,
            "shared_scale": self.postprocess.shared_scale,
            "cam_range": list(self.postprocess.range),
            "augment": self.augment,
            "smooth": None if self.smooth is None else list(self.smooth),
            "detection": self.target.to_record() if isinstance(self.target, BoxScore) else None,
        }


def arguments_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``ExplainableModel`` that a plan's record was made with, but for ``size``.

    Args:
        record: from ``Plan.to_record``, or the fields of ``Metadata``.

    Raises:
        ValueError: the plan explains something that a record cannot say, such as a function of one's own.
    """
    boxes = read_box_arguments(record.get("detection"))
    if not boxes and record["target"] != target_name(ClassScore()):
        raise ValueError(f"The record explains {record['target']}, which only the code that made it can make again.")
    if isinstance(record["forward"], str):
        raise ValueError(f"The record names a function, forward={record['forward']}, which calls the network.")
    if any(is_record_of_images(value) for value in record["options"].values()):
        raise ValueError(f"The record has options that are images, {record['options']}, which it does not hold.")
    arguments = {name: record[name] for name in RECORDED_ARGUMENTS}
    return {"target_layer": list(record["target_layers"]) or None, **arguments, **boxes}


def _refuse_unknown(arguments: Mapping[str, Any]) -> None:
    known = PlanArguments.__annotations__
    for name in arguments:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"It has: {', '.join(known)}."
            raise TypeError(f"ExplainableModel has no argument {name!r}. {hint}")


def _check_call(call: int | None) -> int | None:
    expected = "0 for the first call of the layer, 1 for the second, -1 for the last"
    return None if call is None else as_whole(call, "call", expected, -1)


def _check_frames(frames: int | None, method: Method) -> int | None:
    if frames is not None and (not method.needs_layer or method.needs_image):
        raise ValueError(
            f"frames is {describe(frames)}, and method {method.name!r} explains at the image, frame by channel. Choose "
            "a method that explains at a layer, such as gradcam."
        )
    return None if frames is None else as_whole(frames, "frames", "the axis of the image's frames", -(2**31))


def _postprocess(arguments: PlanArguments) -> Postprocess:
    size, signed = arguments.get("size"), as_flag(arguments.get("signed"), "signed")
    return Postprocess(
        normalize=_word(arguments.get("normalize", True), "max" if signed else Postprocess.normalize),
        upsample=_word(arguments.get("upsample", True), Postprocess.upsample),
        signed=signed,
        shared_scale=as_flag(arguments.get("shared_scale"), "shared_scale"),
        size=None if size is None else as_lengths(size, "size", "positive lengths to resize to"),
    )


def _word(option: Any, default: str) -> Any:
    """The word for an option; ``Postprocess`` refuses what is neither a word nor true or false."""
    if not (option is None or isinstance(option, bool)):
        return option
    return default if option else "none"
