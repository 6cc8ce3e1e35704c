"""Fake quantizers of networks trained for quantization, as one operator with fixed scales."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from explainable_model.errors import ModelError
from explainable_model.lowering.rules.quantization import FAKE_QUANTIZE

MODULE = "torch.ao.quantization.fake_quantize"


@contextmanager
def fixed_scales(model: nn.Module) -> Iterator[None]:
    """Let each fake quantizer compute with its present scale, without reading its switches.

    A fake quantizer reads its switches with Python's ``if``, or in an operator that also updates the scale. Neither can
    be traced.

    Raises:
        ModelError: an observer is on, which would take the scale from the images of each call.
    """
    kinds = getattr(sys.modules.get(MODULE), "FakeQuantizeBase", ())  # a network with such modules has imported it
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, kinds):
                stack.enter_context(_replace_forward(module, _fix_scale(name, module)))
        yield


def _fix_scale(name: str, module: Any) -> Any:
    if bool(module.observer_enabled[0]):
        raise ModelError(
            f"The fake quantizer {name!r} still observes: it would take its scale from the images of each call. "
            "Call model.apply(torch.ao.quantization.disable_observer) on the trained network."
        )
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


@contextmanager
def _replace_forward(module: nn.Module, forward: Any) -> Iterator[None]:
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
