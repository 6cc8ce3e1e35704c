"""Opens whatever explains: a network, its name, an artifact or a session."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import InputError, ModelError
from explainable_model.explainer.explainer import (
    SMOOTH,
    Explainer,
    check_names,
    model_explainer,
    session_explainer,
    wrapper_explainer,
)
from explainable_model.explanation import OUTPUT_KINDS, OutputKind

if TYPE_CHECKING:
    from explainable_model.imaging.preprocess import Preprocess
    from explainable_model.networks.named import NamedModel

INSIDE = "an artifact has its layer, its method and their options inside"


def open_explainer(
    model: Any,
    *,
    preprocess: Any = None,
    class_names: Any = None,
    output_kind: OutputKind | None = None,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    **options: Any,
) -> Explainer:
    """Open what explains photos.

    Args:
        model: an ``nn.Module``, an ``ExplainableModel``, a ``NamedModel``, a name (``timm:resnet50``), the path of an
            artifact, a ``Session``, or an ``Explainer``, which stays as it is.
        preprocess: from a photo to the network's input: a ``Preprocess`` or what ``as_preprocess`` translates.
        class_names: one per class, in a sequence or by index.
        output_kind: how the output is read as probabilities; ``None`` finds it.
        checkpoint, pretrained: as of ``load_named_model``, for a name.
        options: ``target_layer``, ``method`` and the other arguments of ``ExplainableModel``.

    Raises:
        ModelError: a name whose weights would be random.
        InputError: options for an artifact, or nothing says how a photo becomes the input.
        TypeError: ``model`` is nothing that explains.
    """
    names = as_class_names(class_names)
    if output_kind is not None and output_kind not in OUTPUT_KINDS:
        raise InputError(f"output_kind is {output_kind!r}; expected one of {', '.join(OUTPUT_KINDS)}.")
    if isinstance(model, Explainer):
        refuse_options(options, "an Explainer has its layer, its method and their options inside")
        return _override(model, names, output_kind)
    session = open_session(model)
    if session is not None:
        refuse_options({**options, **({"checkpoint": checkpoint} if checkpoint else {})}, INSIDE)
        return _override(session_explainer(session, translate_preprocess(preprocess)), names, output_kind)
    return _open_network(model, preprocess, names, output_kind, checkpoint, pretrained, options)


def as_class_names(names: Any) -> tuple[str, ...] | None:
    """Class names as a tuple; a mapping such as ``id2label`` is read by its indexes.

    Raises:
        InputError: no sequence and no mapping of every index from 0.
    """
    if names is None:
        return None
    if isinstance(names, Mapping):
        by_index = {int(index): str(name) for index, name in names.items()}
        if sorted(by_index) != list(range(len(by_index))):
            raise InputError(f"class_names has the indexes {sorted(by_index)[:8]}; expected each from 0 on.")
        return tuple(by_index[index] for index in range(len(by_index)))
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise InputError(f"class_names is {type(names).__name__}; expected one name per class: ['cat', 'dog'].")
    return tuple(str(name) for name in names)


def open_session(model: Any) -> Any:
    """The session of an artifact; ``None`` for anything else."""
    from explainable_model.exporters import FORMATS
    from explainable_model.runtime import Session, load

    if isinstance(model, Session):
        return model
    if isinstance(model, Path) or (isinstance(model, str) and (":" not in model or Path(model).exists())):
        if Path(model).exists() or str(model).endswith(tuple(end for row in FORMATS.values() for end in row.suffixes)):
            return load(model)
        raise InputError(
            f"There is no file {model}; expected an artifact, or a name such as torchvision:{model} or timm:{model}."
        )
    return None


def _open_network(
    model: Any,
    preprocess: Any,
    names: tuple[str, ...] | None,
    output_kind: OutputKind | None,
    checkpoint: str | Path | None,
    pretrained: bool,
    options: dict[str, Any],
) -> Explainer:
    from explainable_model.model import ExplainableModel

    named = name_network(model, preprocess, names, output_kind, checkpoint, pretrained)
    if isinstance(model, ExplainableModel):
        refuse_options(options, "an ExplainableModel has its layer, its method and their options inside")
        return wrapper_explainer(model, named)
    if "layer" in options:
        raise TypeError("There is no argument 'layer'. Did you mean 'target_layer'?")
    layer, method = options.pop("target_layer", None), options.pop("method", "gradcam")
    options.setdefault("upsample", SMOOTH)
    return model_explainer(named, layer, method, **options)


def name_network(
    model: Any,
    preprocess: Any,
    names: tuple[str, ...] | None,
    output_kind: OutputKind | None,
    checkpoint: str | Path | None,
    pretrained: bool,
) -> "NamedModel":
    """Find a network, its preparation and its classes; the arguments are those of ``open_explainer``.

    Raises:
        ModelError, InputError, TypeError: as ``open_explainer``.
    """
    from torch import nn

    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import NamedModel

    if isinstance(model, str):
        model = _load_by_name(model, checkpoint, pretrained)
    elif checkpoint is not None or pretrained:
        raise InputError(
            "checkpoint and pretrained belong to a network by its name; load the weights into this one with "
            "model.load_state_dict(torch.load(path, weights_only=True))."
        )
    if isinstance(model, ExplainableModel):
        model = NamedModel(model.model)
    elif isinstance(model, nn.Module):
        model = NamedModel(model)
    if not isinstance(model, NamedModel):
        raise TypeError(
            f"model is {type(model).__name__}; expected an nn.Module, a NamedModel, a name such as 'timm:resnet50', "
            "the path of an artifact or a Session."
        )
    return _name(model, preprocess, names, output_kind)


def _load_by_name(name: str, checkpoint: str | Path | None, pretrained: bool) -> "NamedModel":
    from explainable_model.networks.named import has_random_weights, load_named_model

    if has_random_weights(name, checkpoint, pretrained):
        raise ModelError(
            f"{name} would have random weights, which know no class. Give trained ones with checkpoint='weights.pth', "
            "or let the library download its own with pretrained=True."
        )
    return load_named_model(name, checkpoint=checkpoint, pretrained=pretrained)


def _name(
    named: "NamedModel", preprocess: Any, names: tuple[str, ...] | None, output_kind: OutputKind | None
) -> "NamedModel":
    """Fill in what the caller gave, and what the network itself says."""
    from explainable_model.networks.known import find_class_names, find_preprocess

    prepared = translate_preprocess(preprocess) or named.preprocess or find_preprocess(named.model)
    if prepared is None:
        raise InputError(
            f"It is not known how a photo becomes the input of this {type(named.model).__name__}; pass preprocess=, "
            "the transform that it was evaluated with: weights.transforms(), a Compose, a processor of transformers, "
            "or Preprocess((224, 224), mean=..., std=..., resize=256)."
        )
    return replace(
        named,
        preprocess=prepared,
        class_names=names or named.class_names or find_class_names(named.model),
        output_kind=output_kind or named.output_kind,
    )


def translate_preprocess(preprocess: Any) -> "Preprocess | None":
    """Translate what ``as_preprocess`` knows; a preparation of volumes is refused."""
    if preprocess is None:
        return None
    from explainable_model.imaging.volumes import VolumePreprocess
    from explainable_model.networks.transforms import as_preprocess

    if isinstance(preprocess, VolumePreprocess):
        raise InputError("VolumePreprocess prepares volumes; a photo takes Preprocess((224, 224), ...).")
    return as_preprocess(preprocess)


def _override(explainer: Explainer, names: tuple[str, ...] | None, output_kind: OutputKind | None) -> Explainer:
    check_names(names, explainer.classes)
    return replace(
        explainer, class_names=names or explainer.class_names, output_kind=output_kind or explainer.output_kind
    )


def refuse_options(options: Mapping[str, Any], reason: str) -> None:
    """Refuse options.

    Raises:
        InputError: there are some.
    """
    if options:
        raise InputError(f"Leave out {', '.join(options)}: {reason}.")
