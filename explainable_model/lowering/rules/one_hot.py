"""The gradient of a class score with respect to all scores: a one-hot vector that need not be computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting


@dataclass(frozen=True)
class OneHot:
    """One in the column of each image's class, zero elsewhere.

    A linear classifier reads one row of its weight ``(classes, features)`` for each image, instead of a product.

    Attributes:
        class_idx: ``(N,)`` int64.
        scores: ``(N, classes)``, whose gradient this is.
    """

    class_idx: Tensor
    scores: Tensor

    def dense(self) -> Tensor:
        """``(N, classes)`` in the dtype of the scores."""
        classes = counting(self.scores, 1, torch.int64)
        return (self.class_idx.unsqueeze(1) == classes).to(self.scores.dtype)

    def rows(self, weight: Tensor) -> Tensor:
        """``dense() @ weight`` for a weight ``(classes, features)``."""
        return weight.index_select(0, self.class_idx)


def dense(grad: "Tensor | OneHot") -> Tensor:
    """A gradient as a tensor."""
    return grad.dense() if isinstance(grad, OneHot) else grad
