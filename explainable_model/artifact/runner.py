"""The type of everything that runs an artifact, whatever its runtime: a function of NumPy arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array: TypeAlias = NDArray[Any]

Runner: TypeAlias = Callable[..., Sequence[Array]]
"""``(image, class_idx, *inputs) -> (logits, class_idx, cam)`` in the format's own runtime."""


@dataclass(frozen=True)
class PredictingRunner:
    """A runner whose runtime can also leave out what the prediction does not need.

    Attributes:
        run: the artifact.
        predict: arguments as of ``run``; the logits alone.
    """

    run: Runner
    predict: Callable[..., Array]

    def __call__(self, *arrays: Array) -> Sequence[Array]:
        return self.run(*arrays)


def as_array(tensor: "Tensor") -> Array:
    """The tensor as an array in host memory; bfloat16 becomes float32."""
    import torch

    tensor = tensor.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
    return array
