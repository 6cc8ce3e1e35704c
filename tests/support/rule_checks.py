"""How a lowering is compared with autograd: one operator, its arguments, the gradient of each.

Autograd is the independent replica here: a rule never calls it, and everything is in float64.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import Dim

from explainable_model.lowering.capture.export import quiet_export
from explainable_model.lowering.rules import LOWERINGS, SAVING_FORWARDS
from explainable_model.lowering.rules.call import Call, bind, gradient_for, schema_arguments

TOLERANCE = 1e-10
SMALLEST = 1e-12  # a gradient below this counts as zero


class Numbers:
    """Random float64 tensors, the same whichever tests run, and in whichever order."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Of either sign, and never so near zero that a kink or a pole is met."""
        values = torch.randn(shape, dtype=torch.float64, generator=self.generator)
        return values + 0.05 * torch.where(values < 0, -1.0, 1.0)

    def like(self, tensor: Tensor) -> Tensor:
        """Of a tensor's shape and dtype, complex ones with parts of either sign."""
        if tensor.is_complex():
            return torch.complex(self.normal(*tensor.shape), self.normal(*tensor.shape)).to(tensor.dtype)
        return self.normal(*tensor.shape).to(tensor.dtype)

    def positive(self, *shape: int) -> Tensor:
        """Between 0.3 and 1.3."""
        return torch.rand(shape, dtype=torch.float64, generator=self.generator) + 0.3

    def rectified(self, *shape: int) -> Tensor:
        """What a ReLU leaves: about half zeros, so that maxima tie."""
        return self.normal(*shape).relu()


@dataclass(frozen=True)
class Example:
    """One call of an operator.

    Attributes:
        op: the operator.
        args: its arguments in ATen's order.
        kwargs: its keyword arguments.
        wrt: arguments to differentiate, ``tensors[1]`` inside a list; empty for every floating tensor.
        unused: outputs that nobody reads, so that their gradient is ``None``.
        batched: arguments whose first dimension is the batch; empty for the first floating tensor.
        forward: what autograd differentiates instead, where it does not know the operator.
        note: what is special about it.
    """

    op: OpOverload
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    unused: tuple[int, ...] = ()
    batched: tuple[str, ...] = ()
    forward: Callable[..., Any] | None = None
    note: str = ""

    def __str__(self) -> str:
        name = str(self.op).removeprefix("aten.").removesuffix(".default")
        return f"{name}-{self.note}" if self.note else name

    def differentiated(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Tensor]:
        """Argument name -> tensor, for each that wants a gradient."""
        found = dict(_floating_arguments(self.op, args, kwargs))
        return {name: found[name] for name in self.wrt or found}


def example(
    op: OpOverload,
    *args: Any,
    wrt: tuple[str, ...] = (),
    unused: tuple[int, ...] = (),
    batched: tuple[str, ...] = (),
    forward: Callable[..., Any] | None = None,
    note: str = "",
    **kwargs: Any,
) -> Example:
    """A row of a table of examples."""
    return Example(op, args, kwargs, wrt, unused, batched, forward, note)


def _floating_arguments(op: OpOverload, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for argument, value in schema_arguments(op, args, kwargs):
        for index, item in enumerate(value if isinstance(value, (list, tuple)) else [value]):
            if isinstance(item, Tensor) and (item.is_floating_point() or item.is_complex()):
                yield (argument.name if item is value else f"{argument.name}[{index}]"), item


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested lists and dictionaries with a function applied to each tensor."""
    if isinstance(value, dict):
        return {key: mapped(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(item, change) for item in value)
    return change(value) if isinstance(value, Tensor) else value


def call_rule(
    row: Example, args: Sequence[Any], kwargs: dict[str, Any], output: Any, grad: Any, names: Sequence[str]
) -> dict[str, Tensor | None]:
    """The rule's gradient for each named argument, called as the lowering calls it."""
    needed = frozenset(names) | {name.partition("[")[0] for name in names}
    saved = {}
    if row.op in SAVING_FORWARDS:
        output, saved = SAVING_FORWARDS[row.op](*args, **kwargs)
    call = Call(row.op, output, needed, saved)
    rule = LOWERINGS[row.op]
    gradients = rule(call, grad, **bind(rule, row.op, args, kwargs))
    tensors = row.differentiated(args, kwargs)
    return {name: gradient_for(call, gradients, name, tensors[name]) for name in names}


def difference(gradient: Tensor | None, expected: Tensor | None) -> float:
    """Largest difference relative to the largest expected value; ``None`` is zero."""
    if expected is None:
        return 0.0 if gradient is None else gradient.abs().max().item()
    if gradient is None:
        return expected.abs().max().item()
    wide = torch.complex128 if expected.is_complex() else torch.float64
    scale = expected.to(wide).abs().max().item()
    return (gradient.to(wide) - expected.to(wide)).abs().max().item() / (scale if scale > SMALLEST else 1.0)


def compare(row: Example, dtype: torch.dtype = torch.float64) -> float:
    """The worst relative difference between a rule and autograd; shapes and dtypes must be the argument's own."""

    def converted(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype if tensor.dtype == torch.float64 else tensor.dtype, copy=True)

    args, kwargs = mapped((row.args, row.kwargs), converted)
    wrt = row.differentiated(args, kwargs)
    for tensor in wrt.values():
        tensor.requires_grad_()
    result = (row.forward or row.op)(*args, **kwargs)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    numbers = Numbers(0)
    grads = [
        numbers.like(o) if (o.is_floating_point() or o.is_complex()) and i not in row.unused else None
        for i, o in enumerate(outputs)
    ]
    expected = reference(outputs, grads, list(wrt.values()))
    args, kwargs, outputs = mapped((args, kwargs, outputs), Tensor.detach)
    several = not isinstance(result, Tensor)
    with torch.no_grad():
        given = call_rule(
            row, args, kwargs, outputs if several else outputs[0], grads if several else grads[0], list(wrt)
        )
    for name, gradient in given.items():
        if gradient is not None:
            assert gradient.shape == wrt[name].shape, f"{name}: {tuple(gradient.shape)} for {tuple(wrt[name].shape)}"
            assert gradient.dtype == wrt[name].dtype, f"{name}: {gradient.dtype} for {wrt[name].dtype}"
            assert torch.isfinite(gradient).all(), f"{name}: not finite"
    return max(difference(given[name], e) for name, e in zip(wrt, expected, strict=True))


def reference(
    outputs: Sequence[Tensor], grads: Sequence[Tensor | None], wanted: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """Autograd's gradients; ``None`` where nothing depends on a tensor."""
    used = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None and o.requires_grad]
    if not used:
        return [None] * len(wanted)
    return torch.autograd.grad([o for o, _ in used], wanted, [g for _, g in used], allow_unused=True)


class RuleModule(nn.Module):
    """Forward and rule of one operator as a traceable forward, for the loss ``sum(output ** 2)``."""

    def __init__(self, row: Example, names: tuple[str, ...]) -> None:
        super().__init__()
        self.row, self.names = row, names

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        args = replaced(self.row, inputs)
        output = self.row.op(*args, **self.row.kwargs)
        grads = loss_gradients(self.row, [output] if isinstance(output, Tensor) else output)
        grad = grads[0] if isinstance(output, Tensor) else grads
        given = call_rule(self.row, args, self.row.kwargs, output, grad, self.names)
        return {name: gradient for name, gradient in given.items() if gradient is not None}


def loss_gradients(row: Example, outputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradient of the sum of squares of every output that is used."""
    return [2 * o if o.is_floating_point() and i not in row.unused else None for i, o in enumerate(outputs)]


def replaced(row: Example, inputs: dict[str, Tensor]) -> list[Any]:
    """The example's arguments with some tensors replaced."""
    args: list[Any] = []
    for argument, value in schema_arguments(row.op, row.args, row.kwargs)[: len(row.args)]:
        if isinstance(value, list):
            args.append([inputs.get(f"{argument.name}[{i}]", item) for i, item in enumerate(value)])
        else:
            args.append(inputs.get(argument.name, value))
    return args


def another_batch(tensor: Tensor, batch: int) -> Tensor:
    """Other images than the example's, and more of them."""
    images = torch.cat([tensor] * math.ceil(batch / len(tensor)))[:batch]
    factors = torch.linspace(0.8, 1.2, batch).to(tensor).reshape(-1, *[1] * (tensor.ndim - 1))
    return images * factors


def compare_at_another_batch(row: Example, batch: int = 5) -> float:
    """Export forward and rule with an open batch, run them at another batch size and compare with autograd."""
    tensors = dict(_floating_arguments(row.op, row.args, row.kwargs))
    names = row.batched or (next(iter(tensors)),)
    inputs = {name: tensors[name] for name in names}
    shapes = {"inputs": {name: {0: Dim("batch", min=1, max=64)} for name in names}}
    with quiet_export(), torch.no_grad():
        program = torch.export.export(RuleModule(row, names).eval(), (inputs,), dynamic_shapes=shapes, strict=False)
    nodes = [f"{node.name} {node.target}" for node in program.graph.nodes]
    assert not [name for name in nodes if "backward" in name]
    larger = {name: another_batch(tensor, batch) for name, tensor in inputs.items()}
    given = program.module()(larger)
    wanted = {name: tensor.clone().requires_grad_() for name, tensor in larger.items()}
    output = (row.forward or row.op)(*replaced(row, wanted), **row.kwargs)
    outputs = [output] if isinstance(output, Tensor) else list(output)
    expected = reference(outputs, mapped(loss_gradients(row, outputs), Tensor.detach), list(wanted.values()))
    return max(difference(given.get(name), e) for name, e in zip(names, expected, strict=True))
