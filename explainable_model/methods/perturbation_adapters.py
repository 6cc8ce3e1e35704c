"""Methods that hide parts of the image: each a function of a ``MethodContext``."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from explainable_model.attribution.batching import split
from explainable_model.attribution.options import Count, Pixels, Seed, Share
from explainable_model.methods import perturbation

if TYPE_CHECKING:
    from explainable_model.attribution.context import MethodContext

WINDOWS_PER_SIDE = 8
RISE_SAMPLES = 4000
RISE_CELLS = 7
RISE_KEEP = 0.5


def occlusion(context: "MethodContext", *, window: Pixels = 0, stride: Pixels = 0, baseline: float = 0.0) -> Tensor:
    """One pass of the network for each place of a window of one value. See ``perturbation.occlusion``.

    Args:
        context: of the image.
        window: side of the window in pixels; 0 for an eighth of the image's shorter side.
        stride: distance of windows in pixels; 0 for half a window.
        baseline: the value in the window, as the network gets it.
    """
    image = context.framed_image
    size = [int(length) for length in image.shape[2:]]
    window = window or max(1, min(size) // WINDOWS_PER_SIDE)
    windows = perturbation.occlusion_windows(image, size, window, stride or max(1, window // 2))

    def hidden(start: int, stop: int) -> Tensor:
        chosen = windows[start:stop].unsqueeze(1)
        return image.unsqueeze(1) * (1 - chosen) + baseline * chosen

    scores = context.image_scores(hidden, len(windows)).flatten(0, 1)
    return split(perturbation.occlusion(scores, context.scores.flatten(), windows), context.classes)


def rise(
    context: "MethodContext",
    *,
    samples: Count = RISE_SAMPLES,
    cells: Count = RISE_CELLS,
    keep: Share = RISE_KEEP,
    seed: Seed = 0,
) -> Tensor:
    """One pass of the network for each of ``samples`` random masks. See ``perturbation.rise_share``.

    The score is what the network returns: of a network that ends in softmax a probability, as in the paper, else a
    logit.

    Args:
        context: of the image.
        samples: how many masks; the paper takes 4000 for VGG-16 and 8000 for ResNet-50.
        cells: cells of a mask along each dimension.
        keep: probability that a cell is shown.
        seed: another seed gives other masks.
    """
    image = context.framed_image
    size = [int(length) for length in image.shape[2:]]

    def masks(start: int, stop: int) -> Tensor:
        return perturbation.rise_masks(image, size, (start, stop), seed, cells, keep)

    scores = context.image_scores(lambda *drawn: image.unsqueeze(1) * masks(*drawn).unsqueeze(1), samples).flatten(0, 1)
    # The masks are made once more: all of them together would be larger than many networks.
    shares = [
        perturbation.rise_share(scores[:, start : start + context.plan.chunk_size], drawn, samples, keep)
        for start in range(0, samples, context.plan.chunk_size)
        for drawn in [masks(start, min(start + context.plan.chunk_size, samples))]
    ]
    return split(torch.stack(shares).sum(0), context.classes)
