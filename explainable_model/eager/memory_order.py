"""A gradient in the same order in memory as the input of its batch normalization, without which PyTorch mixes both."""

from typing import Any

from torch import Tensor


def hook_batch_norm(node: Any) -> Any:
    """Rearrange in memory the gradient that enters a batch normalization; its values stay.

    PyTorch on a CPU reads the gradient of a single image in the order of its input where the stride of the batch
    leaves open which order it has: the gradient of every ``InstanceNorm2d`` that comes from channels last.
    """

    def arrange(grads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (_like(grads[0], node._saved_input), *grads[1:])

    return node.register_prehook(arrange)


def _like(grad: Tensor, tensor: Tensor) -> Tensor:
    if tensor.ndim < 3 or tensor.is_contiguous() or not tensor.movedim(1, -1).is_contiguous():
        return grad.contiguous()
    return grad.movedim(1, -1).contiguous().movedim(-1, 1)
