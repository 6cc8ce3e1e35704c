"""Loads networks by name: from torchvision, timm, a transformers folder, or a factory of the user."""

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from explainable_model.errors import MissingRuntimeError, ModelError
from explainable_model.explanation import PRESENT, OutputKind, check_threshold
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.checkpoint import load_checkpoint
from explainable_model.networks.factory import call_factory
from explainable_model.networks.transformers import load_classifier, read_class_names, read_preprocess
from explainable_model.networks.transforms import as_preprocess, timm_preprocess, torchvision_preprocess
from explainable_model.spelling import find_near


@dataclass(frozen=True)
class NamedModel:
    """A network, how its images are prepared, and the names of its classes. Factories return it.

    Attributes:
        model: in evaluation mode.
        preprocess: from a photo to the network's input, if known; a ``Compose`` of torchvision is translated.
        class_names: one per class, if known.
        output_kind: how the output is read as probabilities, see ``OUTPUT_KINDS``; ``None`` finds it from the network.
        threshold: smallest probability of a class that is present, where each is present or absent by itself.
        image_shape: ``(C, *spatial)`` of an image that the network takes, where no preparation says it.
    """

    model: nn.Module
    preprocess: Preprocess | None = None
    class_names: tuple[str, ...] | None = None
    output_kind: OutputKind | None = None
    threshold: float = PRESENT
    image_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        object.__setattr__(self, "preprocess", as_preprocess(self.preprocess))


Source = Callable[[str, bool, int | None], NamedModel]
"""``(name, pretrained, classes) -> NamedModel``."""


def load_named_model(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    classes: int | None = None,
    keep_graph: str | Sequence[str] | bool | None = None,
) -> NamedModel:
    """Build a network and load its weights.

    Args:
        name: ``torchvision:resnet50``, ``timm:tf_efficientnet_lite0``, ``transformers:FOLDER`` for a
            folder that ``save_pretrained`` wrote, ``onnx:FILE`` for a file that ``from_onnx`` reads, or
            ``package.module:factory`` or ``./my_model.py:factory`` for a function that returns an ``nn.Module`` or a
            ``NamedModel``.
        checkpoint: file with trained weights, see ``load_checkpoint``.
        pretrained: let torchvision or timm download their own weights; nothing else uses the internet. Without it and
            without a checkpoint, the weights of a torchvision or timm network are random.
        classes: number of classes of a torchvision or timm network; their default otherwise.
        keep_graph: see ``from_onnx``, for ``onnx:FILE`` alone; ``None`` keeps only what the reader lacks, and computes
            without the rounding of a quantized file.

    Raises:
        ModelError: unknown name (the nearest known ones are listed), a factory that fails, weights
            that cannot be fetched or do not fit.
        MissingRuntimeError: timm is not installed.

    Example:
        >>> named = load_named_model("torchvision:resnet18")
        >>> named.preprocess.size, len(named.class_names)
        ((224, 224), 1000)
    """
    source, _, rest = name.partition(":")
    if not source or not rest:
        raise ModelError(
            f"The network is named {name!r}; expected torchvision:NAME (torchvision:resnet50), timm:NAME "
            "(timm:resnet50), transformers:FOLDER, onnx:FILE, package.module:factory or ./my_model.py:factory."
        )
    if pretrained and (checkpoint is not None or classes is not None):
        raise ModelError(
            "Got pretrained together with a checkpoint or a number of classes; expected one of them: pretrained "
            "weights have their own classes."
        )
    if keep_graph not in (None, False) and source != "onnx":
        raise ModelError(f"{name} has no graph to keep; keep_graph is for onnx:FILE.")
    if source == "onnx":
        named = from_onnx_file(rest, pretrained, classes, keep_graph)
    elif source in SOURCES:
        named = SOURCES[source](rest, pretrained, classes)
    elif pretrained or classes is not None:
        raise ModelError(
            f"{name} is a factory, which chooses its weights and classes itself; leave out pretrained and classes."
        )
    else:
        named = from_factory(name)
    if checkpoint is not None:
        load_checkpoint(named.model, checkpoint)
    named.model.eval()
    return named


def has_random_weights(name: str, checkpoint: str | Path | None, pretrained: bool) -> bool:
    """Whether ``load_named_model`` leaves the weights random."""
    return name.partition(":")[0] in ("torchvision", "timm") and checkpoint is None and not pretrained


def resize_preprocess(preprocess: Preprocess, size: tuple[int, int]) -> Preprocess:
    """Adapt a preparation to another input size; the crop keeps its share of the photo."""
    if preprocess.resize is None:
        return replace(preprocess, size=size)
    return replace(preprocess, size=size, resize=round(preprocess.resize * min(size) / min(preprocess.size)))


def from_torchvision(name: str, pretrained: bool, classes: int | None) -> NamedModel:
    """Build one of ``torchvision.models.list_models()``."""
    import torchvision

    known = torchvision.models.list_models()
    if name not in known:
        raise _unknown_name("torchvision", name, known)
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    weights = getattr(torchvision.models.get_model_weights(name), "DEFAULT", None)
    if pretrained and weights is None:
        raise ModelError(f"torchvision has no weights for {name}; give your own with a checkpoint.")
    # Segmentation and detection download a trained backbone by default.
    builder = torchvision.models.get_model_builder(name)
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The default weight initialization", FutureWarning)
        model = _build("torchvision", lambda: builder(weights=weights if pretrained else None, **options), pretrained)
    if weights is None:
        return NamedModel(model)
    names = tuple(weights.meta.get("categories") or ())
    return NamedModel(model, torchvision_preprocess(weights.transforms()), names if names and classes is None else None)


def from_timm(name: str, pretrained: bool, classes: int | None) -> NamedModel:
    """Build one of ``timm.list_models()``, with or without the tag of its weights."""
    try:
        import timm

        timm_info: Any = importlib.import_module("timm.data")
    except ImportError as error:
        raise MissingRuntimeError(f"timm:{name} needs timm: pip install 'explainable-model[timm]'.") from error
    if not timm.is_model(name):
        raise _unknown_name("timm", name, timm.list_models())
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if "." in name and name not in timm.list_pretrained(f"{name.partition('.')[0]}.*"):
        raise _unknown_name("timm", name, timm.list_pretrained(f"{name.partition('.')[0]}.*"))
    model = _build("timm", lambda: timm.create_model(name, pretrained=pretrained, **options), pretrained)
    subset = timm_info.infer_imagenet_subset(model)
    names = tuple(timm_info.ImageNetInfo(subset).label_descriptions()) if subset else ()
    fits = bool(names) and len(names) == getattr(model, "num_classes", None)
    return NamedModel(model, timm_preprocess(timm_info.resolve_model_data_config(model)), names if fits else None)


def from_transformers(folder: str, pretrained: bool, classes: int | None) -> NamedModel:
    """Load a classifier of Hugging Face transformers from a folder that ``save_pretrained`` wrote."""
    if pretrained or classes is not None:
        raise ModelError(f"The folder {folder} holds its weights and classes; leave out pretrained and classes.")
    model = load_classifier(Path(folder))
    return NamedModel(model, read_preprocess(Path(folder)), read_class_names(model))


def from_onnx_file(
    file: str, pretrained: bool, classes: int | None, keep_graph: str | Sequence[str] | bool | None = None
) -> NamedModel:
    """Read an ONNX file, with what it says about its photos and classes."""
    from explainable_model.networks.onnx.named import read_named

    if pretrained or classes is not None:
        raise ModelError(f"The file {file} holds its weights and classes; leave out pretrained and classes.")
    return NamedModel(**read_named(file, keep_graph))


SOURCES: Mapping[str, Source] = {
    "torchvision": from_torchvision,
    "timm": from_timm,
    "transformers": from_transformers,
}


def from_factory(name: str) -> NamedModel:
    """Call a function of the user, and check what it returns."""
    product = call_factory(name)
    if isinstance(product, nn.Module):
        return NamedModel(product)
    if isinstance(product, NamedModel):
        return product
    got = type(product).__name__
    hint = " The state dict of a network is not the network." if isinstance(product, Mapping) else ""
    raise ModelError(f"{name}() returned {got}; expected an nn.Module or an explainable_model.NamedModel.{hint}")


def _build(library: str, build: Callable[[], Any], pretrained: bool) -> nn.Module:
    """Build a network, and say whether its download failed."""
    try:
        model = build()
    except Exception as error:
        if not pretrained:
            raise ModelError(f"{library} cannot build this network: {error}.") from error
        raise ModelError(
            f"{library} could not get its pretrained weights ({type(error).__name__}: {error}). They are downloaded; "
            "without internet, give a file with the weights as the checkpoint."
        ) from error
    assert isinstance(model, nn.Module)
    return model


def _unknown_name(source: str, name: str, known: Iterable[str]) -> ModelError:
    near = find_near(name, known, 4)
    hint = f"Nearest: {', '.join(near)}." if near else "It has no similar name."
    return ModelError(f"{source} has no {name!r}. {hint}")
