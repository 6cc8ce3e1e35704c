"""The module that becomes TorchScript. A file of its own: TorchScript compiles its source."""

from typing import List, Optional, Tuple  # noqa: UP035 - TorchScript reads these

import torch
from torch import Tensor, nn


class ScriptedExplanation(nn.Module):
    """The lowered graph with an optional class index and a plain tuple as its result."""

    image_shape: List[int]  # noqa: UP006 - without the batch

    def __init__(self, graph: nn.Module, image_shape: List[int]) -> None:  # noqa: UP006
        super().__init__()
        self.graph = graph
        self.image_shape = image_shape

    def forward(self, image: Tensor, class_idx: Optional[Tensor] = None) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006, UP045
        """``(logits, class_idx, cam)``; without ``class_idx`` the predicted class is explained."""
        if list(image.shape)[1:] != self.image_shape:
            raise RuntimeError(f"image has shape {list(image.shape)}; expected a batch of {self.image_shape}")
        if class_idx is None:
            class_idx = torch.full([image.shape[0]], -1, dtype=torch.int64, device=image.device)
        result: Tuple[Tensor, Tensor, Tensor] = self.graph(image, class_idx)  # noqa: UP006
        return result
