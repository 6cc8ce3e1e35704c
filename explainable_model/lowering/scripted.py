"""The module that becomes TorchScript. A file of its own: TorchScript compiles its source."""

from typing import List, Optional, Tuple  # noqa: UP035 - TorchScript reads these

import torch
from torch import Tensor, nn


class ScriptedParts(nn.Module):
    """The lowered graph and the check of its inputs, without a ``forward``."""

    image_shape: List[int]  # noqa: UP006 - with -1 where it is open
    minimum: List[int]  # noqa: UP006 - the smallest size of each dimension
    multiple: List[int]  # noqa: UP006 - what each size is a multiple of
    top_k: int  # 0 for one class, without a dimension of its own

    def __init__(
        self,
        graph: nn.Module,
        image_shape: List[int],  # noqa: UP006
        minimum: List[int],  # noqa: UP006
        multiple: List[int],  # noqa: UP006
        top_k: int,
    ) -> None:
        super().__init__()
        self.graph = graph
        self.image_shape, self.minimum, self.multiple = image_shape, minimum, multiple
        self.top_k = top_k

    @torch.jit.export
    def ready(self, image: Tensor, class_idx: Optional[Tensor]) -> Tensor:  # noqa: UP045
        """The classes to explain, where the image is of the right shape."""
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
        if class_idx is not None:
            return class_idx
        shape = [image.shape[0], self.top_k] if self.top_k > 0 else [image.shape[0]]
        return torch.full(shape, -1, dtype=torch.int64, device=image.device)


class ScriptedExplanation(ScriptedParts):
    """The lowered graph with an optional class index and a plain tuple as its result."""

    def forward(self, image: Tensor, class_idx: Optional[Tensor] = None) -> Tuple[Tensor, Tensor, Tensor]:  # noqa: UP006, UP045
        """``(logits, class_idx, cam)``; without ``class_idx`` the predicted class is explained."""
        result: Tuple[Tensor, Tensor, Tensor] = self.graph(image, self.ready(image, class_idx))  # noqa: UP006
        return result


FORWARD = """
def forward(self, image: Tensor, class_idx: Optional[Tensor]{default}{typed}) -> Tuple[{outputs}]:
    result: Tuple[{outputs}] = self.graph(image, self.ready(image, class_idx){names})
    return result
"""
