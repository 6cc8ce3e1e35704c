"""How much memory a call of a PyTorch graph takes: the graph runs on tensors that have shapes and no numbers.

Three operators make terabytes of a photo, from sizes that the graph computes. PyTorch's device ``meta`` tells the shape
of every result without computing it, in some hundredths of a second for a network. Nothing that depends on the values
of the image has a shape there, so each shape is that of a call on any image of the size.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from explainable_model.artifact.limits import MAX_SIDE
from explainable_model.exporters.guard.refusal import Refusal
from explainable_model.exporters.guard.torch_shapes import Operator, find_tensors, infer, map_values

MAX_OPERATORS = 100_000
"""Operators of one call. Some run one for each step of a sequence, or for each part of a tensor."""

MAX_RANK = 32

aten = torch.ops.aten
ASSERTIONS = {aten._assert_tensor_metadata.default, aten._assert_scalar.default, aten._assert_async.msg}
VALUES = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""The operators that read the numbers of a tensor to make a size or a number of them."""

IMPLICIT = torch._C.DispatchKey.CompositeImplicitAutograd


def measure_work(module: Callable[..., Any], inputs: Sequence[Tensor], limit: int) -> int:
    """Measure the memory of one call beside its weights and inputs.

    Args:
        module: the graph, a TorchScript module or that of an exported program, on any device.
        inputs: of the call; their shapes and dtypes alone are read.
        limit: bytes beyond which measuring ends.

    Returns:
        The bytes of all results that live at the same time, at most, and of what operators need while they run.

    Raises:
        Refusal: it takes more than ``limit``, or nothing tells how much before the call.
    """
    meter = _Meter(limit)
    shapes = [torch.empty(each.shape, dtype=each.dtype, device="meta") for each in inputs]
    for shape in shapes:
        meter.hold(shape, 0)
    try:
        with torch.inference_mode(), torch.jit.optimized_execution(False), meter:  # type: ignore[attr-defined]
            module(*shapes)
    except Exception:
        if meter.refusal is not None:  # TorchScript raises its own error instead
            raise meter.refusal from None
        raise
    return meter.peak


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs every operator on shapes, and adds up what is alive."""

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit, self.peak, self.operators = limit, 0, 0
        self.refusal: Refusal | None = None
        self.alive: dict[int, tuple[_Held, int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch imports its compiler, which takes seconds

    def __torch_dispatch__(
        self, func: Operator, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        try:
            return self.run(func, map_values(args, self.shape_of), map_values(kwargs or {}, self.shape_of))
        except Refusal as refusal:
            self.refusal = refusal
            raise

    def run(self, operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.operators += 1
        if self.operators > MAX_OPERATORS:
            raise Refusal(f"a call runs more than {MAX_OPERATORS} operators")
        if operator in ASSERTIONS:
            return None
        if operator in VALUES:
            raise Refusal("nothing tells how much memory a call takes: values of the image decide about sizes")
        _check_parts(operator, args, kwargs)
        if _is_composite(operator):
            with self:
                return operator._op_dk(IMPLICIT, *args, **kwargs)  # in C++: the one in Python imports the compiler
        mutates = operator._schema.is_mutable
        if mutates and torch.Tag.pointwise in operator.tags:
            results = args[0]  # it keeps its shape, and PyTorch's own code for shapes is slow
        else:
            results = infer(operator, args, kwargs)
            if results is None:
                results = operator(*args, **_on_meta(operator, kwargs))
        read = [*find_tensors(args), *find_tensors(kwargs.values())]
        self.add(operator, read, list(find_tensors([results])), mutates=mutates)
        return results

    def shape_of(self, value: Any) -> Any:
        """A tensor of the same shape without numbers; a weight takes memory already."""
        if not isinstance(value, Tensor) or value.device.type == "meta":
            return value
        with torch.inference_mode(value.is_inference()):  # PyTorch compares both where a result is a view
            shape = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        self.hold(shape, 0)
        return shape

    def hold(self, tensor: Tensor, size: int | None = None) -> int:
        """Remember the memory behind a tensor; how many bytes are new."""
        storage = tensor.untyped_storage()
        if storage._cdata in self.alive:
            return 0
        size = storage.nbytes() if size is None else size
        self.alive[storage._cdata] = _Held(storage), size
        return size

    def add(self, operator: Operator, read: list[Tensor], made: list[Tensor], *, mutates: bool) -> None:
        new = sum(map(self.hold, made))
        if any(tensor.dim() > MAX_RANK for tensor in made):
            raise Refusal(f"a call makes a tensor of more than {MAX_RANK} dimensions")
        while_it_runs = 0
        if new or mutates:  # else it is a view
            while_it_runs = sum(map(_count_copied, read)) + WORKSPACES.get(operator, _no_workspace)(read, made)
        self.alive = {key: (held, size) for key, (held, size) in self.alive.items() if not held.is_dead()}
        self.peak = max(self.peak, while_it_runs + sum(size for _, size in self.alive.values()))
        if self.peak > self.limit:
            raise Refusal(f"a call would take {self.peak / 2**30:.0f} GiB of memory")


class _Held:
    """Whether the memory behind a tensor is still needed."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.reference = storage._weak_ref()

    def is_dead(self) -> bool:
        return bool(torch.UntypedStorage._expired(self.reference))

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self.reference)  # type: ignore[no-untyped-call]


def _is_composite(operator: Operator) -> bool:
    """Whether the operator is written in others, each of which takes memory of its own."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), IMPLICIT))


def _on_meta(operator: Operator, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options of an operator that names a device, with the one that has no numbers."""
    if any(argument.name == "device" for argument in operator._schema.arguments):
        return {**kwargs, "device": torch.device("meta")}
    return kwargs


def _check_parts(operator: Operator, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Check how many parts an operator cuts a tensor into: each takes memory, also if it has no numbers.

    Raises:
        Refusal: there may be more than ``MAX_SIDE``.
    """
    if not any(str(result.type) == "List[Tensor]" for result in operator._schema.returns):
        return
    values = [*args, *kwargs.values()]
    sizes = [size for tensor in find_tensors(values) for size in tensor.shape]
    numbers = [n for value in values for n in (value if isinstance(value, list | tuple) else [value])]
    if max([0, *sizes, *(abs(n) for n in numbers if type(n) is int)]) > MAX_SIDE:
        raise Refusal(f"a call cuts a tensor into more than {MAX_SIDE} parts")


def _count_copied(tensor: Tensor) -> int:
    """Bytes of the copy that an operator may make of a tensor whose numbers do not lie in order."""
    return 0 if tensor.is_contiguous() else tensor.numel() * tensor.element_size()


def _no_workspace(read: list[Tensor], made: list[Tensor]) -> int:
    return 0


def _columns(read: list[Tensor], made: list[Tensor]) -> int:
    """A convolution may copy each window of the image into a column."""
    image, weight, result = read[0], read[1], made[0]
    window = math.prod(weight.shape[1:])
    places = result.numel() // max(result.shape[1], 1)
    transposed = image.numel() // max(image.shape[1], 1) * math.prod(weight.shape[1:])
    return max(window * places, transposed) * image.element_size()


def _one_axis(read: list[Tensor], made: list[Tensor]) -> int:
    """Resizing with antialiasing does one axis after the other."""
    image, result = read[0], made[0]
    (height, width), (rows, columns) = image.shape[-2:], result.shape[-2:]
    return math.prod(result.shape[:-2]) * max(height * columns, rows * width) * image.element_size()


def _products(read: list[Tensor], made: list[Tensor]) -> int:
    """A bilinear layer multiplies each pair of values before it adds them up."""
    return made[0].numel() * math.prod(read[1].shape[1:]) * read[0].element_size()


WORKSPACES: dict[Operator, Callable[[list[Tensor], list[Tensor]], int]] = {
    aten.convolution.default: _columns,
    aten._upsample_bilinear2d_aa.default: _one_axis,
    aten._upsample_bicubic2d_aa.default: _one_axis,
    aten._trilinear.default: _products,
}
"""Operators that need more memory while they run than their results: bytes of what they read and made."""
