"""Several copies of each image in one batch."""

from torch import Tensor


def repeat(tensor: Tensor, copies: int) -> Tensor:
    """``(N, ...)`` -> ``(N * copies, ...)``, each image's copies one after the other."""
    if copies == 1:
        return tensor
    return tensor.unsqueeze(1).expand(-1, copies, *[-1] * (tensor.ndim - 1)).flatten(0, 1)


def split(tensor: Tensor, copies: int) -> Tensor:
    """``(N * copies, ...)`` -> ``(N, copies, ...)``."""
    return tensor.reshape(-1, copies, *tensor.shape[1:])
