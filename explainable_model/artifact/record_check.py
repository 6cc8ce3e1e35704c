"""The types of an artifact's record: a wrong one is refused where the file is opened, and not in the first call.

How large its numbers may be is said in ``limits``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

from explainable_model.artifact.shapes import PIXEL_DTYPES, PIXELS
from explainable_model.explanation import OutputKind

Test: TypeAlias = Callable[[Any], bool]
DTYPES = ("float16", "float32", "float64", "bfloat16")
INPUT_DTYPES = (*DTYPES, "bool", "uint8", "int8", "int16", "int32", "int64")
INT32 = 2**31


def check_record(record: Mapping[str, Any]) -> None:
    """Check the types of the fields that the record holds.

    Raises:
        ValueError: a field has another type; the message names the field and its value.
    """
    _check_fields("", record, FIELDS)
    for name, fields in PARTS.items():
        if record.get(name):
            _check_fields(f"{name}.", record[name], fields)


def _check_fields(where: str, record: Any, fields: Mapping[str, Test]) -> None:
    if not isinstance(record, Mapping):
        raise TypeError(f"{where.rstrip('.') or 'the record'} is {_show(record)}; expected named fields")
    for name, test in fields.items():
        if name in record and not test(record[name]):
            raise ValueError(f"{where}{name} is {_show(record[name])}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}..."


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    return _is_text(value) or _is_number(value) or _is_bool(value)


def _is_count(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value < INT32


def _is_index(value: Any) -> bool:
    return _is_count(value, -INT32)


def _maybe(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _all(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _one_of(*known: Any) -> Test:
    return lambda value: isinstance(value, str) and value in known


def _names(test: Test) -> Test:
    return lambda value: isinstance(value, Mapping) and all(test(item) for item in value.values())


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(map(_maybe(_is_count), value))


def _is_image_shape(value: Any) -> bool:
    return _is_shape(value) and 3 <= len(value) <= 6


def _is_input(value: Any) -> bool:
    """A further input: its shape with the batch first, and its dtype."""
    return (
        isinstance(value, Mapping)
        and _is_shape(value.get("shape"))
        and bool(value["shape"])
        and None not in value["shape"][1:]
        and value.get("dtype") in INPUT_DTYPES
    )


def _is_photo(value: Any) -> bool:
    """A coarse copy of a photo."""
    tests = {"values": _is_text, "side": _is_count, "low": _is_number, "high": _is_number}
    return isinstance(value, Mapping) and set(value) == set(tests) and all(t(value[n]) for n, t in tests.items())


def _is_checksum(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None


def _one_or_all(test: Test) -> Test:
    return lambda value: all(map(test, _list(value))) and len(_list(value)) <= 3


def _rows(test: Test) -> Test:
    """Rows of values."""
    return _all(_all(test))


def _nested(value: Any, depth: int = 0) -> bool:
    """Numbers in lists of lists."""
    if isinstance(value, list):
        return depth < 8 and all(_nested(item, depth + 1) for item in value)
    return isinstance(value, int | float | None)


FIELDS: Mapping[str, Test] = {
    "format": _is_text,
    "model": _is_text,
    "method": _is_text,
    "options": _names(lambda value: True),
    "passes": _is_text,
    "target_layers": _all(_is_text),
    "fusion": _is_text,
    "target": _is_text,
    "top_k": _maybe(_is_count),
    "normalize": _is_text,
    "upsample": _is_text,
    "signed": _is_bool,
    "shared_scale": _is_bool,
    "cam_range": lambda value: _all(_maybe(_is_number))(value) and len(value) == 2,
    "augment": _is_bool,
    "smooth": _maybe(lambda value: _all(_is_number)(value) and len(value) == 2),
    "image_shape": _is_image_shape,
    "dtype": _one_of(*DTYPES),
    "classes": _is_count,
    "logits_shape": _is_shape,
    "cam_shape": _is_shape,
    "sizes": _maybe(_all(_names(_is_count))),
    "pixels": _maybe(_one_of(*PIXELS)),
    "pixel_dtype": _one_of(*PIXEL_DTYPES),
    "look": _maybe(_names(lambda value: True)),
    "extra_inputs": _all(_is_input),
    "input_names": _names(_is_text),
    "preprocess": _maybe(_names(lambda value: True)),
    "class_names": _maybe(_all(_is_text)),
    "reference": _maybe(_names(lambda value: True)),
    "precision": _one_of(*DTYPES, "int8"),
    "agreement": _maybe(_names(lambda value: True)),
    "call": _maybe(_is_index),
    "frames": _maybe(_is_index),
    "profile": _is_text,
    "opset": _maybe(_is_count),
    "output_kind": _maybe(_one_of(*get_args(OutputKind))),
    "checksum": _maybe(_is_checksum),
    "detection": _maybe(_names(_maybe(_is_plain))),
    "versions": _names(_maybe(_is_text)),
}
PARTS: Mapping[str, Mapping[str, Test]] = {
    "preprocess": {
        "size": _one_or_all(_is_count),
        "mean": _one_or_all(_is_number),
        "std": _one_or_all(_is_number),
        "resize": _maybe(_is_count),
        "interpolation": _is_text,
        "window": _maybe(lambda value: _all(_is_number)(value) and len(value) == 2),
        "pad": _maybe(_is_number),
    },
    "look": {"colormap": _maybe(_is_text), "alpha": _is_number, "threshold": _is_number, "hide": _is_text},
    "reference": {
        "class_idx": lambda value: _all(_is_index)(value) or _rows(_is_index)(value),
        "logits": _rows(_is_number),
        "cam": _rows(_is_number),
        "logits_tolerance": _is_number,
        "cam_tolerance": _is_number,
        "size": _maybe(_all(_is_count)),
        "inputs": _maybe(_all(_nested)),
        "photo": _maybe(_is_photo),
    },
}
