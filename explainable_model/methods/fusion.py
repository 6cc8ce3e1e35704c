"""One map from those of several layers."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from explainable_model.attribution.method import Fusion
from explainable_model.attribution.postprocess import minmax
from explainable_model.methods.precision import in_float32
from explainable_model.spelling import suggest

GAMMA = 2.0


@in_float32
def fuse_mean(maps: Sequence[Tensor]) -> Tensor:
    """``mean_l s(relu(M_l))`` with ``s`` the scaling of a map to [0, 1].

    Args:
        maps: signed maps ``(N, *spatial)`` of one size, one for each layer.

    Returns:
        Map ``(N, *spatial)`` in [0, 1].

    Example:
        >>> fuse_mean([torch.tensor([[0., 2.]]), torch.tensor([[4., -1.]])])
        tensor([[0.5000, 0.5000]])
    """
    return _scaled(maps).mean(0)


@in_float32
def fuse_max(maps: Sequence[Tensor]) -> Tensor:
    """``max_l s(relu(M_l))`` with ``s`` the scaling of a map to [0, 1].

    Args:
        maps: signed maps ``(N, *spatial)`` of one size, one for each layer.

    Returns:
        Map ``(N, *spatial)`` in [0, 1].

    Example:
        >>> fuse_max([torch.tensor([[0., 2., 0.]]), torch.tensor([[4., 1., 0.]])])
        tensor([[1., 1., 0.]])
    """
    return _scaled(maps).amax(0)


@in_float32
def refinecam(maps: Sequence[Tensor]) -> Tensor:
    """``prod_l s(relu(M_l))``: what every layer marks, as sharp as the finest of them.

    ``s`` scales a map to [0, 1]. The paper scales each map before it is resized to the common size; for
    the same order, scale the maps before they come here (scaling them again changes little).

    Args:
        maps: signed maps ``(N, *spatial)`` of one size, one for each layer.

    Returns:
        Map ``(N, *spatial)`` in [0, 1].

    Source: Domeniconi et al. 2026, How to Evaluate and Refine your CAM, arXiv 2605.14641 (RefineCAM).

    Example:
        >>> refinecam([torch.tensor([[0., 2., 1.]]), torch.tensor([[4., 2., 0.]])])
        tensor([[0.0000, 0.5000, 0.0000]])
    """
    return _scaled(maps).prod(0)


@in_float32
def fuse_layercam(maps: Sequence[Tensor]) -> Tensor:
    """``max_l tanh(2 relu(M_l) / max M_l)``: LayerCAM's own way, which lifts the weak parts of each map.

    A map that is nowhere positive counts as zero.

    Args:
        maps: signed maps ``(N, *spatial)`` of one size, one for each layer.

    Returns:
        Map ``(N, *spatial)`` in [0, tanh 2].

    Source: Jiang et al. 2021, LayerCAM, IEEE Transactions on Image Processing 30, equation 9.

    Example:
        >>> fuse_layercam([torch.tensor([[0., 2.]]), torch.tensor([[4., -1.]])])
        tensor([[0.9640, 0.9640]])
    """
    rectified = torch.stack(list(maps)).relu()
    largest = rectified.amax(tuple(range(2, rectified.ndim)), keepdim=True)
    relative = rectified / largest.clamp_min(torch.finfo(rectified.dtype).tiny)
    return torch.tanh(GAMMA * relative).amax(0)


def _scaled(maps: Sequence[Tensor]) -> Tensor:
    """``(L, N, *spatial)``, each map rectified and scaled to [0, 1]."""
    return torch.stack([minmax(cam.relu()) for cam in maps])


FUSIONS: Mapping[str, Fusion] = {
    fusion.name: fusion
    for fusion in (
        Fusion("mean", fuse_mean),
        Fusion("max", fuse_max),
        Fusion("product", refinecam),
        Fusion("layercam", fuse_layercam),
    )
}
"""Name -> how the maps of several layers become one."""


def find_fusion(name: str) -> Fusion:
    """The fusion of that name.

    Raises:
        ValueError: no such fusion; the known ones are listed.
    """
    if name not in FUSIONS:
        raise ValueError(f"Unknown fusion {name!r}; known fusions: {', '.join(FUSIONS)}.{suggest(str(name), FUSIONS)}")
    return FUSIONS[name]
