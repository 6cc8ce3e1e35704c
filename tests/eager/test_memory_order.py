"""Batch and instance normalization of a single image, whose gradient arrives in another order in memory."""

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel

RAW = {"normalize": "none", "upsample": "none", "signed": True}


class MixedOrders(nn.Module):
    """A normalization before a layer that works on channels last."""

    def __init__(self, norm: nn.Module, spatial: int) -> None:
        super().__init__()
        self.conv = (nn.Conv2d, nn.Conv3d)[spatial - 2](3, 4, 3, padding=1)
        self.norm, self.last = norm, nn.LayerNorm(4)
        self.head = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.last(self.norm(self.conv(image)).movedim(1, -1)).tanh()
        return self.head(maps.flatten(1, -2).square().mean(1))


class NormOfColorsLast(nn.Module):
    """A batch norm of one image whose colors are last in memory, before a gradient whose channels are first."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head, self.copies = nn.BatchNorm2d(3), nn.Linear(3 * 6 * 7, 3), False

    def forward(self, image: Tensor) -> Tensor:
        photo = image[0].permute(1, 2, 0).contiguous().permute(2, 0, 1).unsqueeze(0)
        return self.head(self.norm(photo.contiguous() if self.copies else photo).flatten(1)).tanh()


@pytest.mark.parametrize("tracks", [False, True])
@pytest.mark.parametrize(("make", "spatial"), [(nn.InstanceNorm2d, 2), (nn.InstanceNorm3d, 3)])
@pytest.mark.parametrize("top_k", [None, 2])
def test_gradient_of_instance_norm_for_one_image_is_that_of_a_batch(make, spatial, tracks, top_k):
    torch.manual_seed(0)
    network = MixedOrders(make(4, affine=True, track_running_stats=tracks), spatial).double().eval()
    images = torch.randn(2, 3, *(6, 8, 5)[:spatial]).double()
    explain = ExplainableModel(network, None, "inputxgradient", top_k=top_k, **RAW)

    together = explain(images).cam
    alone = torch.cat([explain(image[None]).cam for image in images])

    torch.testing.assert_close(alone, together)
    assert together.abs().max() > 1e-4


@pytest.mark.parametrize("top_k", [None, 2])
def test_photo_with_its_colors_last_in_memory_has_the_map_of_its_copy(top_k):
    torch.manual_seed(0)
    network = NormOfColorsLast().double().eval()
    explain = ExplainableModel(network, None, "inputxgradient", top_k=top_k, **RAW)
    photo = torch.randn(1, 3, 6, 7).double()

    got = explain(photo).cam
    network.copies = True
    torch.testing.assert_close(got, explain(photo).cam)
