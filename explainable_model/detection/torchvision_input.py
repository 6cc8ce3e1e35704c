"""What torchvision's detectors do to an image before their backbone, for a whole batch at once."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class Prepared(NamedTuple):
    """An image as the backbone takes it.

    Attributes:
        image: ``(N, C, H', W')``, normalized, resized and padded.
        height, width: its size without the padding.
        original: height and width of the image as it was given.
    """

    image: Tensor
    height: int
    width: int
    original: tuple[int, int]

    def to_original(self, boxes: Tensor) -> Tensor:
        """Boxes ``(..., 4)`` in pixels of the image as it was given."""
        # torchvision divides in float32
        down = torch.tensor(float(self.original[0])) / torch.tensor(float(self.height))
        across = torch.tensor(float(self.original[1])) / torch.tensor(float(self.width))
        factors = torch.stack([across, down, across, down]).to(boxes)
        return boxes * factors


def prepare(transform: Any, image: Tensor) -> Prepared:
    """See ``torchvision.models.detection.transform.GeneralizedRCNNTransform``; all images have one size.

    Args:
        transform: the network's.
        image: ``(N, C, H, W)``.
    """
    mean = torch.as_tensor(transform.image_mean, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
    std = torch.as_tensor(transform.image_std, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
    original = int(image.shape[2]), int(image.shape[3])
    resized = _resize((image - mean) / std, transform, original)
    height, width = int(resized.shape[2]), int(resized.shape[3])
    step = transform.size_divisible
    below, beside = math.ceil(height / step) * step - height, math.ceil(width / step) * step - width
    padded = functional.pad(resized, (0, beside, 0, below)) if below or beside else resized
    return Prepared(padded, height, width, original)


def _resize(image: Tensor, transform: Any, size: tuple[int, int]) -> Tensor:
    if transform.fixed_size is not None:
        target = [transform.fixed_size[1], transform.fixed_size[0]]
    else:
        factor = min(transform.min_size[-1] / min(size), transform.max_size / max(size))
        target = [math.floor(length * factor) for length in size]
    return functional.interpolate(image, size=target, mode="bilinear", align_corners=False)


def pyramid_of(backbone: nn.Module, image: Tensor) -> list[Tensor]:
    """The maps that a backbone returns, the finest first."""
    features = backbone(image)
    return [features] if isinstance(features, Tensor) else list(features.values())
