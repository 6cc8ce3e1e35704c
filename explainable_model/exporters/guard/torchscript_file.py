"""The entries of a TorchScript file: which of them PyTorch receives, and in what form."""

import re
from collections.abc import Callable
from typing import Any

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.exporters.guard.archive import Archive
from explainable_model.exporters.guard.pickles import Module, TensorRecord, read_pickle
from explainable_model.exporters.guard.refusal import Refusal, shorten
from explainable_model.exporters.guard.script import Fields, check_code

MARKS = ("version", ".data/version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment")
CODE = re.compile(r"code/__torch__(/[A-Za-z_]\w*)+\.py", re.ASCII)
NUMBERS = re.compile(r"(data|constants)/\d{1,9}", re.ASCII)
MAX_MARK = 1000

KINDS: dict[str, Callable[[Any], bool]] = {
    "Tensor": lambda value: isinstance(value, TensorRecord),
    "Optional[Tensor]": lambda value: value is None or isinstance(value, TensorRecord),
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "float": lambda value: type(value) is float,
    "str": lambda value: isinstance(value, str) and len(value) < 10_000_000,
    "NoneType": lambda value: value is None,
    "Optional[bool]": lambda value: value is None or type(value) is bool,
    "List[int]": lambda value: isinstance(value, list) and len(value) <= 16 and all(type(n) is int for n in value),
    "Dict[int, int]": lambda value: isinstance(value, dict) and all(type(n) is int for n in [*value, *value.values()]),
}
"""The types that a module's fields may have, and whether a value of the pickle is of the type."""


def check_entries(archive: Archive) -> tuple[dict[str, bytes], list[str]]:
    """The checked entries, and the names of those that are plain numbers.

    Raises:
        Refusal: the file holds something that the exporter does not write.
    """
    contents = {name: archive.read(name, MAX_MARK) for name in MARKS if name in archive.entries}
    sources, copied = {}, []
    for name in archive.entries:
        if NUMBERS.fullmatch(name):
            copied.append(name)
        elif CODE.fullmatch(name):
            sources[name] = archive.read(name)
        elif name not in {*MARKS, "data.pkl", "constants.pkl", f"extra/{METADATA_KEY}"} and not (
            name.endswith(".debug_pkl") and CODE.fullmatch(name.removesuffix(".debug_pkl"))
        ):
            raise Refusal(f"it has the entry {shorten(name)}")
    written, classes = check_code(sources)
    for pickle, folder in (("data.pkl", "data/"), ("constants.pkl", "constants/")):
        contents[pickle] = archive.read(pickle)
        sizes = {name.removeprefix(folder): archive.entries[name].size for name in copied if name.startswith(folder)}
        _check_value(read_pickle(contents[pickle], classes, sizes), classes)
    return {**contents, **written}, copied


def _check_value(value: Any, classes: dict[str, Fields]) -> None:
    """Compare the fields of a module with their types; constants are a tuple of tensors."""
    if isinstance(value, tuple) and all(isinstance(item, TensorRecord) for item in value):
        return
    if not isinstance(value, Module):
        raise Refusal("its list of weights holds no module")
    fields = classes[value.kind]
    if fields.keys() != value.state.keys():
        raise Refusal(f"the fields of {shorten(value.kind)} are not those of its list of weights")
    for name, kind in fields.items():
        held = value.state[name]
        if kind in classes and isinstance(held, Module) and held.kind == kind:
            _check_value(held, classes)
        elif kind not in KINDS or not KINDS[kind](held):
            raise Refusal(f"the field {shorten(name)} is not of the type {shorten(kind)}")
