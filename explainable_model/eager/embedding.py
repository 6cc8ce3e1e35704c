"""Refuse an embedding that is returned without a name, and would be read as scores of classes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.prediction import find_prediction
from explainable_model.attribution.targets import ClassScore
from explainable_model.eager.buffers import restored_buffers
from explainable_model.errors import ModelError

ROUNDING = 8  # of the dtype's smallest difference, by which a normalized row may miss the length one
EXACT_TYPES = (torch.float32, torch.float64)  # in half precision a row may have the length one by chance


def refuse_embedding(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor], logits: Tensor) -> None:
    """Refuse rows of length one with signs, in host memory: a normalized embedding has no classes.

    Where the user says what is explained, by ``target`` or ``output``, nothing is refused. Another image must give the
    length one as well.

    Args:
        model: the network.
        plan: what is explained.
        image: ``(N, C, *spatial)``.
        inputs: the network's extra inputs.
        logits: ``(N, classes)``, what the network returned for the image.

    Raises:
        ModelError: the network returns an embedding.
    """
    if not isinstance(plan.target, ClassScore) or plan.output is not None or not _is_normalized(logits):
        return
    with restored_buffers(model):
        other = find_prediction(call_network(model, plan.forward, image * 0.5, inputs))
    if not other.declared and _is_normalized(other.tensor):
        raise ModelError(
            f"{type(model).__name__} returned {logits.shape[1]} values of both signs whose squares sum to 1 for every "
            "image: a normalized embedding, not the scores of classes. Explain its similarity to another embedding: "
            "target=Similarity(), with the reference as an extra input. If they are scores, say so: "
            "output=lambda output: output (or the part of it that holds them)."
        )


def _is_normalized(rows: Tensor) -> bool:
    if rows.device.type != "cpu" or rows.dtype not in EXACT_TYPES or rows.ndim != 2 or rows.shape[1] < 2:
        return False
    lengths = rows.detach().double().square().sum(1)
    is_unit = bool(((lengths - 1).abs() <= ROUNDING * torch.finfo(rows.dtype).eps).all())
    return is_unit and bool((rows < 0).any())
