"""Explains volumes: a network of three spatial dimensions, or an artifact of one."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import InputError
from explainable_model.explainer.explainer import Explainer, session_explainer, volume_explainer
from explainable_model.explainer.open_explainer import INSIDE, as_class_names, open_session
from explainable_model.explainer.volume_explanation import VolumeExplanation
from explainable_model.imaging.volumes import VolumePreprocess, is_volume_path, read_volume

FindClass = Callable[[Any, Explainer], int | None]


def explain_volumes(
    volumes: Any, model: Any, class_idx: Any, preprocess: VolumePreprocess, find_class: FindClass, **options: Any
) -> Any:
    """Explain one volume, or several one after the other.

    Args:
        volumes: a path of NIfTI, ``(x, y, z)`` of NumPy or torch, or an iterable of them.
        model: as of ``explain``.
        class_idx: one class, or ``None``.
        preprocess: how a volume becomes the input.
        find_class: the number of a class.
        options: ``class_names``, ``output_kind``, and those of ``ExplainableModel``.

    Returns:
        A ``VolumeExplanation``, or an iterator of them.

    Raises:
        InputError: several classes or methods, a volume that cannot be read, or a network that returns a flat map.
    """
    for name, value in (("class_idx", class_idx), ("method", options.get("method"))):
        if isinstance(value, list | tuple):
            raise InputError(f"{name} is {value!r}; expected one for a volume: call explain for each.")
    explainer = _open(model, preprocess, **options)
    if isinstance(volumes, str | Path) or hasattr(volumes, "ndim"):
        return _explain_one(0, volumes, explainer, preprocess, class_idx, find_class)
    answer = partial(
        _explain_one, explainer=explainer, preprocess=preprocess, class_idx=class_idx, find_class=find_class
    )
    return (answer(number, volume) for number, volume in enumerate(volumes))


def refuse_options_of_photos(**given: Any) -> None:
    """Refuse arguments of ``explain`` that mean nothing for volumes.

    Raises:
        InputError: one of them was given.
    """
    names = [name for name, value in given.items() if value]
    if names:
        raise InputError(
            f"Leave out {', '.join(names)}: a volume's window is VolumePreprocess(window=...), its network is given "
            "with its weights, and volumes are explained as their iterator is read."
        )


def refuse_volumes(photos: Any) -> None:
    """Refuse a volume whose preparation is that of a photo.

    Raises:
        InputError: it is a NIfTI file.
    """
    if is_volume_path(photos):
        raise InputError(
            f"{photos} is a volume; say how it becomes the network's input: preprocess=VolumePreprocess((64, 64, 64), "
            "window=(0, 1000))."
        )


def _open(model: Any, preprocess: VolumePreprocess, class_names: Any, output_kind: Any, **options: Any) -> Explainer:
    """Open a network, an ``ExplainableModel``, an artifact or a session."""
    names, session = as_class_names(class_names), open_session(model)
    if session is not None:
        if options:
            raise InputError(f"Leave out {', '.join(options)}: {INSIDE}.")
        if session.metadata.preparation is not None:
            raise InputError(f"{session.path} takes photos, as its metadata say; expected an artifact of volumes.")
        found = session_explainer(session, preprocess)
        return replace(found, class_names=names or found.class_names, output_kind=output_kind or found.output_kind)
    from torch import nn

    from explainable_model.model import ExplainableModel
    from explainable_model.networks.named import NamedModel

    if isinstance(model, nn.Module) and not isinstance(model, ExplainableModel):
        layer = options.pop("target_layer", None)
        model = ExplainableModel(model, layer, **{"upsample": "none", **options})
    elif options:
        raise InputError(f"Leave out {', '.join(options)}: an ExplainableModel has its options inside.")
    if not isinstance(model, ExplainableModel):
        raise TypeError(
            f"model is {type(model).__name__}; expected an nn.Module, an ExplainableModel, the path of an artifact or "
            "a Session."
        )
    named = NamedModel(model.model, class_names=names, output_kind=output_kind)
    return volume_explainer(model, named, preprocess)


def _explain_one(
    number: int,
    source: Any,
    explainer: Explainer,
    preprocess: VolumePreprocess,
    class_idx: Any,
    find_class: FindClass,
) -> VolumeExplanation:
    volume = read_volume(source)
    index = find_class(class_idx, explainer)
    classes = None if index is None else np.asarray([index], np.int64)
    logits, explained, cam = explainer.run(preprocess(volume), classes)
    if explained.ndim != 1 or cam.ndim != 4:
        raise InputError(
            f"The map has the shape {cam.shape[1:]}; expected three dimensions and one class: a network of volumes, "
            "without top_k."
        )
    name = volume.path.name if volume.path else f"volume {number + 1}"
    values = preprocess.undo(cam[0], volume)
    return VolumeExplanation(volume, name, values, logits[0], int(explained[0]), explainer, preprocess)
