"""Fake quantizers of networks trained for quantization, as one operator with fixed scales."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from explainable_model.eager.observers import fake_quantizers, refuse_observers
from explainable_model.lowering.rules.quantization import FAKE_QUANTIZE


@contextmanager
def fixed_scales(model: nn.Module) -> Iterator[None]:
    """Let each fake quantizer compute with its present scale, without reading its switches.

    A fake quantizer reads its switches with Python's ``if``, or in an operator that also updates the scale. Neither can
    be traced.

    Raises:
        ModelError: an observer is on, which would take the scale from the images of each call.
    """
    refuse_observers(model)
    with ExitStack() as stack:
        stack.enter_context(_TracedFakeQuantize())
        for module in fake_quantizers(model).values():
            stack.enter_context(_replace_forward(module, _fix_scale(module)))
        yield


def _fix_scale(module: Any) -> Any:
    if not bool(module.fake_quant_enabled[0]):
        return lambda values: values
    axis = module.ch_axis if module.is_per_channel else 0
    low, high = module.activation_post_process.quant_min, module.activation_post_process.quant_max

    def forward(values: Tensor) -> Tensor:
        shape = [1] * values.ndim
        shape[axis] = -1
        quantized: Tensor = FAKE_QUANTIZE(
            values, module.scale.reshape(shape), module.zero_point.reshape(shape), low, high
        )
        return quantized

    return forward


class _TracedFakeQuantize(TorchFunctionMode):
    """Calls of PyTorch's functions for fake quantization become one operator that can be traced for any batch size."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in FUNCTIONS:
            return func(*args, **(kwargs or {}))
        given = inspect.signature(FUNCTIONS[func]).bind(*args, **(kwargs or {})).arguments
        values, axis = given["input"], given.get("axis", 0)
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero_point = (_as_tensor(given[name], values).reshape(shape) for name in ("scale", "zero_point"))
        return FAKE_QUANTIZE(values, scale, zero_point, given["quant_min"], given["quant_max"])


def _as_tensor(number: Any, like: Tensor) -> Tensor:
    return number if isinstance(number, Tensor) else like.new_full((1,), number)


def _per_tensor(input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> None:
    """The arguments of ``torch.fake_quantize_per_tensor_affine``."""


def _per_channel(input: Tensor, scale: Any, zero_point: Any, axis: int, quant_min: int, quant_max: int) -> None:
    """The arguments of ``torch.fake_quantize_per_channel_affine``."""


FUNCTIONS: Mapping[Any, Callable[..., None]] = {
    torch.fake_quantize_per_tensor_affine: _per_tensor,
    torch.fake_quantize_per_channel_affine: _per_channel,
}


@contextmanager
def _replace_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
