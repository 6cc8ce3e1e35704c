"""Finer-CAM: another score, for any method."""

import torch
from torch import Tensor

from explainable_model.attribution.counting import counting

GAMMA = 0.6
REFERENCES = 3


def finercam_weights(
    logits: Tensor, class_idx: Tensor, *, gamma: float = GAMMA, references: int = REFERENCES
) -> Tensor:
    """Weights of the classes in a score that compares a class with those most like it.

    The score is ``y_c - gamma (1 / T) sum_t y_dt``, where ``y`` are the logits, ``c`` the class and ``d_t``
    the T classes whose logits are closest to its own. Multiply the logits by these weights and sum: the
    gradient of that score makes the map, by whichever method. The choice of the classes is not
    differentiated.

    Where this differs from the paper: nowhere. Of its two ways to combine several references this is the
    plain mean; the authors' code also has one weighted by the softmax, which makes the weights part of
    what is differentiated.

    Args:
        logits: ``(N, classes)``, floating point.
        class_idx: ``(N,)`` int64 in ``0 ... classes - 1``.
        gamma: strength of the comparison: 0 explains the class alone, 1 the plain difference.
        references: T; at most all other classes are used, and with one class there are none.

    Returns:
        ``(N, classes)``: 1 for the class, ``-gamma / T`` for each reference, 0 for the others.

    Source: Zhang et al. 2025, Finer-CAM, arXiv 2501.11309.

    Example:
        >>> finercam_weights(torch.tensor([[5., 4., 0.]]), torch.tensor([0]), gamma=0.5, references=1)
        tensor([[ 1.0000, -0.5000,  0.0000]])
    """
    count = counting(logits, 1, torch.int64)
    chosen = class_idx.unsqueeze(1) == count
    references = min(references, logits.shape[1] - 1)
    if references == 0:
        return chosen.to(logits.dtype)
    class_logit = torch.where(chosen, logits, 0.0).sum(1, keepdim=True)
    distance = torch.where(chosen, torch.inf, (logits - class_logit).abs())
    nearest = distance.topk(references, 1, largest=False).indices
    compared = (nearest.unsqueeze(2) == count).to(logits.dtype).sum(1)
    return chosen.to(logits.dtype) - gamma / references * compared
