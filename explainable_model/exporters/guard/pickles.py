"""Reads a pickle of TorchScript as data: its few opcodes by a small machine that calls nothing."""

import pickletools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from explainable_model.exporters.guard.refusal import Refusal, shorten

STORAGES = {
    "Float": 4, "Double": 8, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    "ComplexFloat": 8, "ComplexDouble": 16, "ComplexHalf": 4,
}  # fmt: skip
"""Bytes of an element of each kind of storage."""

PUSHED = {"BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "NONE", "NEWTRUE", "NEWFALSE"}
FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
REBUILD, TAG = "torch._utils _rebuild_tensor_v2", "torch.jit._pickle restore_type_tag"
HOOKS = "collections OrderedDict"
TAGS = re.compile(r"(List|Dict|Optional|Tuple|int|float|bool|str|Tensor|NoneType|[\[\], ])+", re.ASCII)
MARK = object()


class Name(str):
    """A name of the pickle that stands for a class or a function; it is never looked up."""


@dataclass(frozen=True)
class Storage:
    """The entry that holds the numbers of tensors."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor that lies inside of its storage."""

    storage: Storage


@dataclass
class Module:
    """A module of the file, and what it holds by name."""

    kind: str
    state: dict[str, Any] = field(default_factory=dict)


def read_pickle(content: bytes, classes: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """Read a pickle, and check that its tensors lie inside of their entries.

    Args:
        content: the pickle.
        classes: the modules that the file may name.
        sizes: bytes of each entry of numbers, by its key.

    Raises:
        Refusal: it holds other opcodes or names, a tensor reaches beyond its entry, or an entry holds none.
    """
    machine = _Machine(classes, sizes)
    try:
        value = machine.run(content)
        unused = sizes.keys() - machine.used
        if unused:
            raise Refusal(f"no weight lies in its entry {shorten(min(unused))}")
        return value
    except Refusal:
        raise
    except Exception as error:  # a broken pickle takes from an empty stack, or adds a list to a number
        raise Refusal(f"its list of weights cannot be read ({type(error).__name__})") from error


class _Machine:
    def __init__(self, classes: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.classes, self.sizes = classes, sizes
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.used: set[str] = set()

    def run(self, content: bytes) -> Any:
        operations: Iterable[tuple[Any, Any, Any]] = pickletools.genops(content)
        for count, (code, argument, position) in enumerate(operations):
            if code.name == "STOP":
                if position != len(content) - 1 or len(self.stack) != 1:
                    raise Refusal("its list of weights does not end where it says")
                return self.stack[0]
            if code.name in PUSHED:
                self.stack.append(FIXED.get(code.name, argument))
            elif code.name in ("BINPUT", "LONG_BINPUT"):
                if argument > count:
                    raise Refusal("its list of weights has a number that would fill the memory")
                self.memo[argument] = self.stack[-1]
            elif code.name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif code.name != "PROTO":
                self.step(code.name, argument)
        raise Refusal("its list of weights has no end")

    def step(self, name: str, argument: Any) -> None:
        push, pop = self.stack.append, self.stack.pop
        match name:
            case "GLOBAL":
                push(self.find(argument))
            case "MARK":
                push(MARK)
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                push({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(self.take() if name == "TUPLE" else [pop() for _ in range(int(name[-1]))][::-1]))
            case "APPEND" | "APPENDS":
                items = self.take() if name == "APPENDS" else [pop()]
                self.stack[-1] += items
            case "SETITEM" | "SETITEMS":
                items = self.take() if name == "SETITEMS" else [pop(), pop()][::-1]
                self.stack[-1].update(zip(items[::2], items[1::2], strict=True))
            case "BINPERSID":
                push(self.find_storage(pop()))
            case "REDUCE":
                arguments = pop()
                push(self.call(pop(), arguments))
            case "NEWOBJ":
                arguments = pop()
                push(self.make(pop(), arguments))
            case "BUILD":
                state = pop()
                if not isinstance(self.stack[-1], Module) or not isinstance(state, dict) or self.stack[-1].state:
                    raise Refusal("its list of weights sets the state of no module")
                self.stack[-1].state = state
            case _:
                raise Refusal(f"its list of weights holds the instruction {name}")

    def take(self) -> list[Any]:
        """Everything above the last mark."""
        items: list[Any] = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def find(self, name: str) -> Name:
        module, _, attribute = name.partition(" ")
        storage = module == "torch" and attribute.removesuffix("Storage") in STORAGES
        if storage or name in {*LISTS, REBUILD, TAG, HOOKS} or f"{module}.{attribute}" in self.classes:
            return Name(name)
        raise Refusal(f"its list of weights names {shorten(name)}")

    def find_storage(self, identity: Any) -> Storage:
        _, kind, key, device, count = identity
        storage = Storage(str(kind).removeprefix("torch ").removesuffix("Storage"), key, count)
        size = self.sizes.get(key) if isinstance(key, str) else None
        if identity[0] != "storage" or not isinstance(kind, Name) or device != "cpu" or type(count) is not int:
            raise Refusal("its list of weights names numbers in an unknown way")
        if size is None or count < 0 or size != count * STORAGES[storage.kind]:
            raise Refusal(f"the entry {shorten(key)} of its weights has {size} bytes and not {count} numbers")
        self.used.add(key)
        return storage

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(function, Name):
            raise Refusal("its list of weights calls what has no name")
        if function == HOOKS and arguments == ():
            return {}
        if function in LISTS:
            [items] = arguments
            kinds: dict[str, Callable[[Any], bool]] = {
                "int": lambda item: type(item) is int,
                "double": lambda item: type(item) is float,
                "bool": lambda item: type(item) is bool,
                "tensor": lambda item: isinstance(item, TensorRecord),
            }
            kind = next(kind for kind in kinds if f"build_{kind}list" in function)
            if isinstance(items, list) and all(map(kinds[kind], items)):
                return items
        elif function == TAG:
            value, tag = arguments
            if isinstance(value, list | dict) and TAGS.fullmatch(tag) and len(tag) < 100:
                return value
        elif function == REBUILD:
            return self.rebuild(*arguments)
        raise Refusal(f"its list of weights calls {shorten(str(function))} in an unknown way")

    def rebuild(
        self, storage: Any, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], grad: bool, hooks: Any
    ) -> TensorRecord:
        numbers = [offset, *shape, *strides]
        if not isinstance(storage, Storage) or type(grad) is not bool or hooks != {} or len(shape) != len(strides):
            raise Refusal("its list of weights makes a tensor in an unknown way")
        if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers):
            raise Refusal("its list of weights has a tensor of a negative size")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        count = 1
        for size in shape:
            count *= size
        if count > storage.count or (count and last >= storage.count):
            raise Refusal(f"a weight is larger than the entry {shorten(storage.key)} that holds it")
        return TensorRecord(storage)

    def make(self, kind: Any, arguments: Any) -> Module:
        if not isinstance(kind, Name) or arguments != () or kind.replace(" ", ".") not in self.classes:
            raise Refusal("its list of weights makes an object that is no module")
        return Module(kind.replace(" ", "."))
