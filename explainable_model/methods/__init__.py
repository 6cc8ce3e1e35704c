"""The CAM methods: one pure function of (activations, gradients) each, and the table of them."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

from explainable_model.methods.gradcam import gradcam

Activations: TypeAlias = Tensor  # (N, K, *spatial)
Gradients: TypeAlias = Tensor  # (N, K, *spatial)
CamMethod: TypeAlias = Callable[[Activations, Gradients], Tensor]  # -> signed map (N, *spatial)

METHODS: Mapping[str, CamMethod] = {
    "gradcam": gradcam,
}


def find_method(name: str) -> CamMethod:
    """The method of that name.

    Raises:
        ValueError: no such method; the known ones are listed.
    """
    if name not in METHODS:
        raise ValueError(f"Unknown method {name!r}; known methods: {', '.join(METHODS)}.")
    return METHODS[name]
