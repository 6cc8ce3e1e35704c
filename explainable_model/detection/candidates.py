"""What a detector offers before it suppresses duplicates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Explained: TypeAlias = Callable[[Tensor], Tensor]
"""From positions ``(N, R)`` of candidates to what is explained of them ``(N, R)``, with its gradient."""

COORDINATES = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Candidates:
    """M candidates of each image.

    Attributes:
        scores: ``(N, M)``, as the detector's own results say them.
        boxes: ``(N, M, 4)``, ``x1, y1, x2, y2`` in pixels of the image.
        labels: ``(N, M)`` int64.
        explained: by the name of a score (``class``, ``objectness``), what is differentiated.
        coordinates: from positions ``(N, R)`` to boxes ``(N, R, 4)`` with their gradient, where there is one.
        levels: ``(N, M)`` int64, the level of the pyramid that each lies on; ``None`` where they lie on none.
        tie_boxes: ``(N, M, 4)``, the boxes whose overlap counts; ``None`` for ``boxes``.
    """

    scores: Tensor
    boxes: Tensor
    labels: Tensor
    explained: Mapping[str, Explained]
    coordinates: Explained | None = None
    levels: Tensor | None = None
    tie_boxes: Tensor | None = None


def take(values: Tensor, places: Tensor) -> Tensor:
    """``(N, R, ...)``: the values ``(N, M, ...)`` at places ``(N, R)``."""
    if values.ndim == 2:
        return values.gather(1, places)
    return values.gather(1, places.unsqueeze(2).expand(-1, -1, values.shape[2]))


def best_places(scores: Tensor, count: int) -> Tensor:
    """``(N, min(M, count))``: the places of the best of ``(N, M)``, the best first."""
    return scores.topk(min(count, scores.shape[1]), dim=1).indices


def log_odds(logits: Tensor, column: Tensor) -> Tensor:
    """``log p - log(1 - p)`` of a class of a softmax: its sigmoid is the probability.

    Args:
        logits: ``(..., classes)``.
        column: ``(...)`` int64, the class.

    Returns:
        ``(...)``: ``z_c - log sum_{j != c} exp(z_j)``.
    """
    hot = torch.arange(logits.shape[-1], device=logits.device) == column.unsqueeze(-1)
    others = torch.where(hot, torch.full_like(logits, torch.finfo(logits.dtype).min / 2), logits)
    return logits.gather(-1, column.unsqueeze(-1)).squeeze(-1) - torch.logsumexp(others, -1)


def clip_boxes(boxes: Tensor, height: float, width: float) -> Tensor:
    """Boxes ``(..., 4)`` cut at the border of the image."""
    left, top, right, bottom = boxes.unbind(-1)
    return torch.stack([left.clamp(0, width), top.clamp(0, height), right.clamp(0, width), bottom.clamp(0, height)], -1)
