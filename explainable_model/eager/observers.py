"""Refuse fake quantizers that still observe: each call would change their scale."""

import sys
from typing import Any

from torch import nn

from explainable_model.errors import ModelError

MODULE = "torch.ao.quantization.fake_quantize"


def fake_quantizers(model: nn.Module) -> dict[str, Any]:
    """The fake quantizers of a network, by name."""
    kinds = getattr(sys.modules.get(MODULE), "FakeQuantizeBase", ())  # a network with such modules has imported it
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def refuse_observers(model: nn.Module) -> None:
    """Refuse a network with a fake quantizer whose observer is on.

    Raises:
        ModelError: names the first such quantizer.
    """
    for name, module in fake_quantizers(model).items():
        if bool(module.observer_enabled[0]):
            raise ModelError(
                f"The fake quantizer {name!r} still observes: it would take its scale from the images of each call, so "
                "two calls with the same image return different values. "
                "Call model.apply(torch.ao.quantization.disable_observer) on the trained network."
            )
