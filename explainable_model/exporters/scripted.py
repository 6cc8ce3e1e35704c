"""The module that becomes TorchScript. A file of its own: TorchScript compiles its source."""

from typing import List, Optional, Tuple  # noqa: UP035 - TorchScript reads these

import torch
from torch import Tensor, nn


class ScriptedExplanation(nn.Module):
    """The lowered graph with an optional class index and a plain tuple as its result."""

    image_shape: List[int]  # noqa: UP006 - with -1 where it is open
    minimum: List[int]  # noqa: UP006 - the smallest size of each dimension
    multiple: List[int]  # noqa: UP006 - what each size is a multiple of

    def __init__(self, graph: nn.Module, image_shape: List[int], minimum: List[int], multiple: List[int]) -> None:  # noqa: UP006
        super().__init__()
        self.graph = graph
        self.image_shape, self.minimum, self.multiple = image_shape, minimum, multiple

    def forward(self, image: Tensor, class_idx: Optional[Tensor] = None) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006, UP045
        """``(logits, class_idx, cam)``; without ``class_idx`` the predicted class is explained."""
        fits = len(image.shape) == len(self.image_shape)
        if fits:
            for i in range(len(self.image_shape)):
                size, expected = image.shape[i], self.image_shape[i]
                fits = fits and (expected == -1 or size == expected)
                fits = fits and size >= self.minimum[i] and size % self.multiple[i] == 0
        if not fits:
            raise RuntimeError(
                f"image has shape {list(image.shape)}; expected {self.image_shape}, where -1 is any size from "
                f"{self.minimum} that is a multiple of {self.multiple}"
            )
        if class_idx is None:
            class_idx = torch.full([image.shape[0]], -1, dtype=torch.int64, device=image.device)
        result: Tuple[Tensor, Tensor, Tensor] = self.graph(image, class_idx)  # noqa: UP006
        return result
