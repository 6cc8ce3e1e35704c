"""Small checkers of JSON, which return the checked value alone: what no checker asks for is not passed on."""

import json
import keyword
import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

from explainable_model.exporters.guard.refusal import Refusal, shorten

Check: TypeAlias = Callable[[Any], Any]
MAX_ITEMS, MAX_STRING = 1_000_000, 100_000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,500}", re.ASCII)


def parse_json(content: bytes, name: str) -> Any:
    """The value of a JSON text.

    Raises:
        Refusal: it is no JSON, or nested too deep.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{name} is no JSON text ({error})") from error


def is_int(value: Any) -> Any:
    """A number of 64 bits."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    raise Refusal(f"{shorten(value)} stands where a whole number belongs")


def is_bool(value: Any) -> Any:
    """True or false."""
    if type(value) is bool:
        return value
    raise Refusal(f"{shorten(value)} stands where true or false belongs")


def is_float(value: Any) -> Any:
    """A number, or one of the names of infinity."""
    if type(value) in (int, float) and (isinstance(value, float) or abs(value) < 2**63):
        return value
    if value in ("Infinity", "-Infinity", "NaN"):
        return value
    raise Refusal(f"{shorten(value)} stands where a number belongs")


def is_text(value: Any) -> Any:
    """A printable text, which is only shown."""
    if isinstance(value, str) and len(value) <= MAX_STRING and value.isprintable():
        return value
    raise Refusal(f"{shorten(value)} stands where a text belongs")


def is_name(value: Any) -> Any:
    """A name that PyTorch writes into Python code."""
    if isinstance(value, str) and NAME.fullmatch(value) and not keyword.iskeyword(value) and not _is_special(value):
        return value
    raise Refusal(f"{shorten(value)} stands where a name belongs")


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def is_path(value: Any) -> Any:
    """Names joined by dots, where a part may be a number; or nothing."""
    parts = value.split(".") if isinstance(value, str) else []
    plain = parts and all(re.fullmatch(r"\w{1,200}", part, re.ASCII) and not _is_special(part) for part in parts)
    if value == "" or plain:
        return value
    raise Refusal(f"{shorten(value)} stands where the name of a module belongs")


def one_of(*values: Any) -> Check:
    """One of these values, of the same type."""

    def check(value: Any) -> Any:
        if any(type(value) is type(known) and value == known for known in values):
            return value
        raise Refusal(f"{shorten(value)} stands where only {shorten(values)} may")

    return check


def matches(pattern: str) -> Check:
    """A text of this pattern."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII):
            return value
        raise Refusal(f"it holds the text {shorten(value)}")

    return check


def optional(check: Check) -> Check:
    """Nothing, or what ``check`` accepts."""
    return lambda value: None if value is None else check(value)


def list_of(check: Check, most: int = MAX_ITEMS) -> Check:
    """A list of what ``check`` accepts."""

    def check_list(value: Any) -> Any:
        if not isinstance(value, list) or len(value) > most:
            raise Refusal(f"{shorten(value)} stands where a list belongs")
        return [check(item) for item in value]

    return check_list


def dict_of(check_key: Check, check: Check) -> Check:
    """A mapping from what ``check_key`` accepts to what ``check`` accepts."""

    def check_dict(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) > MAX_ITEMS:
            raise Refusal(f"{shorten(value)} stands where a mapping belongs")
        return {check_key(key): check(item) for key, item in value.items()}

    return check_dict


def record(**checks: Check) -> Check:
    """A record of exactly these fields; a check named ``maybe_...`` accepts that its field is missing."""
    required = {name: check for name, check in checks.items() if not name.startswith("maybe_")}
    others = {name.removeprefix("maybe_"): check for name, check in checks.items() if name.startswith("maybe_")}
    known = {**required, **others}

    def check_record(value: Any) -> Any:
        if not isinstance(value, dict) or not required.keys() <= value.keys():
            raise Refusal(f"{shorten(value)} stands where a record of {', '.join(required)} belongs")
        unknown = value.keys() - known.keys()
        if unknown:
            raise Refusal(f"it has the unknown field {shorten(min(unknown))}")
        return {name: known[name](item) for name, item in value.items()}

    return check_record


def union(**checks: Check) -> Check:
    """A record of exactly one of these fields."""

    def check_union(value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise Refusal(f"{shorten(value)} stands where one value belongs")
        [(name, item)] = value.items()
        if name not in checks:
            raise Refusal(f"it holds {shorten(name)}, and only {', '.join(checks)} may stand there")
        return {name: checks[name](item)}

    return check_union


def is_small_shape(value: Any) -> Any:
    """A list of whole numbers that no tensor of a gigabyte or more has as its shape."""
    numbers = list_of(is_int, 100_000)(value)
    if math.prod(max(abs(n), 1) for n in numbers[:64]) > 2**28 and len(numbers) <= 64:
        raise Refusal(f"it holds the sizes {shorten(numbers)}")
    return numbers
