"""Running a torch module on NumPy arrays."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch

from explainable_model.artifact.runner import Array, Runner, as_array


def torch_runner(
    module: Callable[..., Any], threads: int | None, device: str = "cpu", metadata: str | None = None
) -> Runner:
    """A runner over any callable of tensors; the number of threads is torch's own, process-wide.

    NumPy has no bfloat16: float32 stands for it on both sides.
    """
    rounded = metadata is not None and json.loads(metadata)["dtype"] == "bfloat16"
    if threads is not None:
        torch.set_num_threads(threads)

    def run(*arrays: Array) -> Sequence[Array]:
        with torch.inference_mode(), torch.autocast(device.partition(":")[0], enabled=False):
            tensors = [torch.from_numpy(array).to(device) for array in arrays]
            outputs = module(*(t.bfloat16() if rounded and t.is_floating_point() else t for t in tensors))
        return [as_array(output) for output in outputs]

    return run
