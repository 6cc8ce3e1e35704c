"""The options that say how a photo becomes a network's input, where the network itself does not say so."""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from explainable_model.cli.method_options import parse_size
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from explainable_model.imaging.preprocess import Preprocess
    from explainable_model.networks.named import NamedModel

PREPARATION = ("mean", "std", "resize", "pad", "preprocess", "class_names")
"""Destinations of the arguments that ``add_preparation`` adds, besides the size."""
IMAGENET = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
WRITE_PREPARATION = (
    f"Say it as in the training: --size 224x224 {IMAGENET} (these numbers are ImageNet's), or "
    "--preprocess torchvision:resnet50, or let the function return NamedModel(model, Preprocess(...), class_names)."
)
LARGEST_NAMES = 10_000_000  # bytes


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """Add the options of a network that does not say how its photos are prepared."""
    group = parser.add_argument_group("photos and classes of a network that does not know them itself")
    group.add_argument(
        "--preprocess",
        metavar="NAME",
        help="prepare photos as for this network of torchvision or timm, for example torchvision:resnet50",
    )
    group.add_argument(
        "--size", type=parse_size, metavar="HxW", help="size of the images, for example 224x224; default: as trained"
    )
    group.add_argument(
        "--mean", type=parse_numbers, metavar="M[,M,M]", help="per channel, of values from 0 to 1, as in the training"
    )
    group.add_argument("--std", type=parse_numbers, metavar="S[,S,S]", help="per channel, as in the training")
    group.add_argument(
        "--resize",
        type=int,
        metavar="N",
        help="shorter side before a center crop; default: the whole photo becomes the image",
    )
    group.add_argument(
        "--pad",
        type=float,
        metavar="V",
        help="for detectors: keep the shape of the photo and fill a border with this gray, 0 to 1 (ultralytics: 0.447)",
    )
    group.add_argument(
        "--class-names", type=Path, metavar="FILE", help="a text file with one name per line, or a JSON list or object"
    )


def apply_preparation(named: "NamedModel", arguments: argparse.Namespace) -> "NamedModel":
    """Add to a network what the arguments say about its photos and its classes.

    Raises:
        InputError: half a preparation, or a file that holds no names.
    """
    from explainable_model.networks.known import find_class_names

    names = arguments.class_names and read_class_names(arguments.class_names)
    names = names or named.class_names or find_class_names(named.model)
    return replace(named, preprocess=_prepare(named, arguments), class_names=names)


def require_preparation(named: "NamedModel") -> None:
    """Refuse a network that cannot take photos.

    Raises:
        InputError: nothing says how a photo becomes its input.
    """
    if named.preprocess is None:
        raise InputError(
            f"It is not known how a photo becomes the input of this {type(named.model).__name__}. {WRITE_PREPARATION}"
        )


def _prepare(named: "NamedModel", arguments: argparse.Namespace) -> "Preprocess | None":
    """Make the preparation: that of another network, that of the network itself, or that of the numbers."""
    from explainable_model.imaging.preprocess import Preprocess
    from explainable_model.networks.known import find_preprocess, preprocess_of
    from explainable_model.networks.named import resize_preprocess

    size, mean, std, resize = arguments.size, arguments.mean, arguments.std, arguments.resize
    changed = {"mean": mean, "std": std, "resize": resize, "pad": arguments.pad}
    known = preprocess_of(arguments.preprocess) if arguments.preprocess else named.preprocess
    known = known or find_preprocess(named.model)
    if known is None:
        if all(value is None for value in changed.values()):
            return None  # a size alone says nothing about the values of the pixels
        size = size or _known_size(named)
        given = {"size": size, "mean": mean, "std": std}
        missing = [f"--{name}" for name, value in given.items() if value is None]
        if missing or size is None:
            raise InputError(
                f"{', '.join(missing)} is missing: a photo becomes the input by --size, --mean and --std together, for "
                f"example --size 224x224 {IMAGENET}."
            )
        channels = max(len(mean), len(std), count_channels(named.model) or 1)
        mean, std = (values * (channels if len(values) == 1 else 1) for values in (mean, std))
        return Preprocess(size, mean, std, resize, pad=arguments.pad)
    is_whole = None not in (size, mean, std)
    if named.preprocess is None and (is_whole or resize is not None):
        known = replace(known, pad=None)  # the numbers say another shape than the border that the detector names
    if size is not None:
        known = resize_preprocess(known, size)
    for name, values in (("mean", mean), ("std", std)):
        changed[name] = values * len(known.mean) if values is not None and len(values) == 1 else values
    return replace(known, **{name: value for name, value in changed.items() if value is not None})


def _known_size(named: "NamedModel") -> tuple[int, int] | None:
    """The size of the images, where the file of the network says it."""
    shape = named.image_shape
    return None if shape is None else (shape[-2], shape[-1])


def count_channels(model: "nn.Module") -> int | None:
    """Count the channels of the images that a network takes, by its first convolution; ``None`` where it has none."""
    from torch import nn

    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return None if first is None else first.in_channels


def parse_numbers(text: str) -> tuple[float, ...]:
    """Parse one number, or one for each of three channels: ``0.485,0.456,0.406``."""
    try:
        values = tuple(float(part) for part in re.split(r"[,\s]+", text.strip(" ,[]()")))
    except ValueError:
        values = ()
    if len(values) not in (1, 3):
        raise argparse.ArgumentTypeError(f"{text!r} is not one number or three; expected for example 0.485,0.456,0.406")
    return values


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of the classes: one per line, or JSON: a list, or an object with the numbers as keys.

    Raises:
        InputError: no such file, or no names in it.
    """
    try:
        if path.stat().st_size > LARGEST_NAMES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes; expected one name per class.")
        text = path.read_text(encoding="utf-8-sig")
        names = _read_json(text) if path.suffix == ".json" else tuple(text.splitlines())
    except OSError as error:
        raise InputError(f"The class names {path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} holds no class names ({error}); expected one per line, in UTF-8.") from error
    names = tuple(name.strip() for name in names or ())
    if not names or not all(names):
        number = next((number for number, name in enumerate(names, 1) if not name), 1)
        raise InputError(f"{path} has no name in line {number}; expected one name per class, in their order.")
    return names


def _read_json(text: str) -> tuple[str, ...]:
    from explainable_model.explainer.open_explainer import as_class_names

    content = json.loads(text)
    values = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    wrong = next((value for value in values if not isinstance(value, str)), None)
    if wrong is not None or not isinstance(content, dict | list):
        raise TypeError(f"got {type(content if wrong is None else wrong).__name__}")
    return as_class_names(content) or ()
