"""The options of the command line that shape an explanation, as arguments of ``ExplainableModel``."""

import argparse
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from explainable_model.cli.methods import parse_method, read_table
from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import BOXES, DETECTION
from explainable_model.explanation import BOX_METHOD, METHOD
from explainable_model.imaging.window import Window, parse_window

TASKS = (DETECTION,)
ALL = "all"
OPTIONS = (
    "task",
    "layer",
    "method",
    "option",
    "top_k",
    "normalize",
    "upsample",
    "signed",
    "map_size",
    "fusion",
    "augment",
    "smooth",
    "chunk_size",
)
"""Destinations of the arguments that ``add_method_options`` adds."""


def add_method_options(parser: argparse.ArgumentParser, *, all_methods: bool = False) -> None:
    """Add the options that shape an explanation."""
    group = parser.add_argument_group("what is explained, and how")
    every_method = f", or {ALL} for a sheet of every method" if all_methods else ""
    group.add_argument(
        "--task", choices=TASKS, help="detection: boxes, and a map for each; default: one map for each class"
    )
    method: Any = group.add_argument(
        "--method",
        type=partial(_parse_method, all_methods=all_methods),
        metavar="NAME",
        help=f"default: {METHOD}, of boxes {BOX_METHOD}; see: methods{every_method}",
    )
    method.completer = partial(_complete_method, all_methods=all_methods)
    group.add_argument(
        "--layer", action="append", metavar="NAME", help="default: the last with a spatial map, see: layers; repeatable"
    )
    group.add_argument(
        "--fusion", metavar="NAME", help="how the maps of several layers become one: mean, max, product or layercam"
    )
    group.add_argument(
        "--option",
        action="append",
        type=_parse_pair,
        metavar="NAME=VALUE",
        help="an option of the method, see: methods; repeatable",
    )
    group.add_argument(
        "--top-k",
        type=int,
        metavar="K",
        help=f"explain the K best classes instead of one; of a detector the K best boxes, default: {BOXES}",
    )
    group.add_argument("--normalize", metavar="NAME", help="minmax, max or none; default: minmax, for signed maps max")
    group.add_argument("--signed", action="store_true", help="keep negative evidence, which speaks against the class")
    group.add_argument(
        "--upsample", metavar="NAME", help="bilinear, bicubic, nearest or none; default: bilinear, in pictures bicubic"
    )
    group.add_argument("--map-size", type=parse_size, metavar="HxW", help="size of the maps; default: the image's")
    group.add_argument("--augment", action="store_true", help="average over scaled and mirrored copies")
    group.add_argument(
        "--smooth",
        type=parse_smooth,
        metavar="COPIES[,NOISE]",
        help="average over noisy copies; the noise is a share of the image's range, default: 0.15",
    )
    group.add_argument(
        "--chunk-size",
        type=int,
        metavar="N",
        help="how many copies of the image a method with many passes runs at once",
    )


def wrapper_arguments(arguments: argparse.Namespace, method: str | None = None) -> dict[str, Any]:
    """Read the arguments of ``ExplainableModel`` besides the network.

    Args:
        arguments: as parsed.
        method: replaces the one among the arguments.

    Raises:
        InputError: an option that the method does not have, or a value of another type than its default.
        ValueError: an unknown method.
    """
    has_boxes = arguments.task == DETECTION
    method = method or arguments.method or (BOX_METHOD if has_boxes else METHOD)
    top_k = BOXES if has_boxes and arguments.top_k is None else arguments.top_k
    wrapper: dict[str, Any] = {
        "task": arguments.task,
        "target_layer": arguments.layer,
        "method": method,
        "options": parse_method_options(method, arguments.option or ()),
        "top_k": top_k,
        "signed": arguments.signed,
        "augment": arguments.augment,
        "smooth": arguments.smooth,
        "normalize": arguments.normalize,
        "upsample": arguments.upsample,
        "size": arguments.map_size,
        "fusion": arguments.fusion,
        "chunk_size": arguments.chunk_size,
    }
    return {name: value for name, value in wrapper.items() if value is not None}


def parse_method_options(method: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Parse the options of a method, each as the type of its default."""
    from explainable_model.methods import find_method

    row = find_method(method)
    known = row.options
    options = {name: _parse_option(name, text, known[name]) if name in known else text for name, text in pairs}
    return row.check_options(options)


def _parse_option(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind is bool:
        values = {"true": True, "false": False}
        if text.lower() in values:
            return values[text.lower()]
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    expected = {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, kind.__name__)
    raise InputError(f"The option {name} is {text!r}; expected {expected}, for example {name}={str(default).lower()}.")


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``HEIGHTxWIDTH``."""
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; expected HEIGHTxWIDTH, for example 224x224")
    return int(match[1]), int(match[2])


def parse_smooth(text: str) -> int | tuple[int, float]:
    """Parse ``COPIES`` or ``COPIES,NOISE``."""
    match = re.fullmatch(r"([1-9]\d*)(?:,(\d*\.?\d+))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not COPIES or COPIES,NOISE; expected for example 16 or 16,0.1")
    return int(match[1]) if match[2] is None else (int(match[1]), float(match[2]))


def parse_count(text: str) -> int:
    """Parse a whole number from 1."""
    if re.fullmatch(r"[1-9]\d*", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; expected a whole number from 1 on")
    return int(text)


def parse_photo_window(text: str) -> Window:
    """Parse ``BLACK,WHITE``."""
    try:
        return parse_window(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parse_method(text: str, *, all_methods: bool) -> str:
    return ALL if all_methods and text == ALL else parse_method(text)


def _complete_method(prefix: str, *, all_methods: bool, **_: object) -> list[str]:
    names = [*(row["method"] for row in read_table()), *([ALL] if all_methods else [])]
    return [name for name in names if name.startswith(prefix)]


def _parse_pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not an option; expected NAME=VALUE, for example samples=16")
    return name, value
