"""Images on which float32 can be compared exactly, on any processor.

The gradient of a ReLU jumps where its input is zero but for the last bits, and every processor rounds those bits in its
own way. The steadiest images are found in float64, by noise larger than the rounding of float32.
"""

import torch
from torch import Tensor

from explainable_model import ExplainableModel
from tests.support.nets import images

NOISE = 4e-6  # of a pixel; float32 rounds by 6e-8, and a deep network sums a few hundred such errors


def steadiest(exact: ExplainableModel, pool: Tensor, classes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The images of the pool, and their classes, whose maps noise changes least.

    Args:
        exact: the network in float64, explained with maps in [0, 1].
        pool: images ``(N, C, H, W)``, float32.
        classes: their classes ``(N,)``.
        count: how many to return; images with blank maps are never among them.
    """
    image = pool.double()
    cam = exact(image, classes).cam.flatten(1)
    moved = [exact(image + NOISE * images(*_shape(image), seed=seed), classes).cam.flatten(1) for seed in (1, 2)]
    change = torch.stack([(other - cam).abs().amax(1) for other in moved]).amax(0)
    change[cam.amax(1) < 0.5] = torch.inf
    order = change.argsort()[:count]
    assert change[order].isfinite().all(), "too few images with a map"
    return pool[order], classes[order]


def lively_classes(exact: ExplainableModel, pool: Tensor, classes: Tensor) -> Tensor:
    """The given classes ``(N,)``, but the predicted one for an image whose map of the given class is blank."""
    cam = exact(pool.double(), classes).cam.flatten(1)
    return torch.where(cam.amax(1) > 0.5, classes, exact(pool.double()).class_idx)


def _shape(image: Tensor) -> tuple[int, tuple[int, ...]]:
    return image.shape[0], tuple(image.shape[1:])
