"""The bound of what a call of a file that PyTorch runs may take."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from explainable_model.artifact.limits import MAX_WORK
from explainable_model.artifact.metadata import Metadata
from explainable_model.errors import UntrustedArtifactError, last_line
from explainable_model.exporters.guard.refusal import Refusal, not_shown_harmless
from explainable_model.exporters.guard.torch_work import measure_work

MAX_KNOWN = 1000
"""How many shapes of calls are remembered: a server may get photos of any size."""


def bound_work(module: Callable[..., Any], metadata: Metadata, path: Path) -> Callable[[Sequence[Tensor]], None]:
    """Check the memory of a call on an image of the recorded size, and make the check of later calls.

    A file can ask for other amounts at other sizes, so that a call on inputs of new shapes is checked before it runs.

    Args:
        module: the graph.
        metadata: the record.
        path: the file, for messages.

    Returns:
        The check: it takes the inputs of a call, and raises ``UntrustedArtifactError``.

    Raises:
        UntrustedArtifactError: the call takes more than ``MAX_WORK`` bytes, or nothing tells how much.
    """
    known: set[tuple[tuple[tuple[int, ...], torch.dtype], ...]] = set()
    example = _make_example(metadata)
    values = math.prod(example[0].shape)

    def check(inputs: Sequence[Tensor]) -> None:
        shapes = tuple((tuple(each.shape), each.dtype) for each in inputs)
        if shapes in known:
            return
        try:
            measure_work(module, inputs, MAX_WORK * max(math.ceil(inputs[0].numel() / values), 1))
        except Refusal as refusal:
            raise not_shown_harmless(path, refusal) from refusal
        if len(known) >= MAX_KNOWN:
            known.clear()
        known.add(shapes)

    try:
        check(example)
    except UntrustedArtifactError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, ArithmeticError, NotImplementedError) as error:
        refusal = Refusal(f"nothing tells how much memory a call takes ({last_line(error)})")
        raise not_shown_harmless(path, refusal) from error
    return check


def _make_example(metadata: Metadata) -> list[Tensor]:
    """Inputs of the recorded shapes, without numbers."""
    dtypes = metadata.to_dict()["inputs"]
    return [
        torch.empty(shape, dtype=getattr(torch, dtypes[name]["dtype"]), device="meta")
        for name, shape in metadata.input_shapes.items()
    ]
