"""Running a torch module on NumPy arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from explainable_model.exporters.format import Array, Runner


def torch_runner(module: Callable[..., Any], threads: int | None, device: str = "cpu") -> Runner:
    """A runner over any callable of tensors; the number of threads is torch's own, process-wide."""
    if threads is not None:
        torch.set_num_threads(threads)

    def run(*arrays: Array) -> Sequence[Array]:
        with torch.inference_mode():
            outputs = module(*(torch.from_numpy(array).to(device) for array in arrays))
        return [output.cpu().numpy() for output in outputs]

    return run
