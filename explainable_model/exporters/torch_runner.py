"""Runs a torch module on NumPy arrays."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, Runner, as_array
from explainable_model.exporters.guard.torch_bound import bound_work


def torch_runner(
    module: Callable[..., Any],
    threads: int | None,
    device: str = "cpu",
    metadata: Metadata | None = None,
    foreign: Path | None = None,
) -> Runner:
    """Make a runner of a function of tensors.

    NumPy has no bfloat16: arrays of float32 stand for it as inputs and outputs.

    Args:
        module: ``(image, class_idx, *inputs) -> (logits, class_idx, cam)``.
        threads: torch's number of threads, which holds for the whole process; ``None`` leaves it as it is.
        device: where the module runs.
        metadata: the artifact's metadata, which says whether the module computes in bfloat16.
        foreign: a file whose calls may take no more memory than its metadata justifies; ``None`` where it is trusted.

    Raises:
        UntrustedArtifactError: a call takes more memory than that, or nothing tells how much.
    """
    in_bfloat16 = metadata is not None and metadata.dtype == "bfloat16"
    check = None if foreign is None or metadata is None else bound_work(module, metadata, foreign)
    if threads is not None:
        torch.set_num_threads(threads)

    def run(*arrays: Array) -> Sequence[Array]:
        with torch.inference_mode(), torch.autocast(device.partition(":")[0], enabled=False):
            tensors = [torch.from_numpy(array).to(device) for array in arrays]
            tensors = [t.bfloat16() if in_bfloat16 and t.is_floating_point() else t for t in tensors]
            if check is not None:
                check(tensors)
            outputs = module(*tensors)
        return [as_array(output) for output in outputs]

    return run
