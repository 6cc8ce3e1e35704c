"""Running a torch module on NumPy arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from explainable_model.exporters.format import Array, Runner


def torch_runner(module: Callable[..., Any], threads: int | None, device: str = "cpu") -> Runner:
    """A runner over any callable of two tensors; the number of threads is torch's own, process-wide."""
    if threads is not None:
        torch.set_num_threads(threads)

    def run(image: Array, class_idx: NDArray[np.int64]) -> Sequence[Array]:
        with torch.inference_mode():
            outputs = module(torch.from_numpy(image).to(device), torch.from_numpy(class_idx).to(device))
        return [output.cpu().numpy() for output in outputs]

    return run
