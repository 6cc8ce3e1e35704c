"""Where the methods that score masked copies differ from a peer's, each held to the masks that it makes."""

import inspect
from functools import partial

import pytest
import torch
import torchcam.methods
from torch import Tensor, nn

from explainable_model.attribution.postprocess import minmax, resize
from tests.peers import nets, reference
from tests.peers.adapters import Explain, grad_cam, largest_difference, ours, torch_cam
from tests.peers.differing import differs
from tests.peers.pairs import GRAD_CAM, TORCHCAM
from tests.peers.reference import class_scores, layer_values, masked_scores, weighted

VISIBLE = 1e-3


def paper_factors(samples: int) -> list[float]:
    """``sum_{j=0}^{i-1} j / N`` for ``i = 1 ... N``, as the paper and torchcam's documentation print it."""
    return [sum(j / samples for j in range(i)) for i in range(1, samples + 1)]


def peer_factors(samples: int) -> list[float]:
    """What torchcam computes: ``sum_{j=1}^{i} j / N``."""
    return [sum(j / samples for j in range(1, i + 1)) for i in range(1, samples + 1)]


@pytest.mark.parametrize(
    ("peer", "mask"),
    [
        (grad_cam("ScoreCAM"), reference.corners_then_scaled),
        (torch_cam("ScoreCAM"), reference.scaled_then_resized),
    ],
    ids=[GRAD_CAM, TORCHCAM],
)
def test_scorecam_of_maps_that_are_resized(peer: Explain, mask: reference.Mask) -> None:
    # The paper scales a mask after it is resized. torchcam scales it before, so that masks may not reach one;
    # pytorch-grad-cam resizes with aligned corners, which moves the mask against the image.
    network, layer, image = nets.strided()
    activations, _ = layer_values(network, layer, image)

    def scorecam(make_mask: reference.Mask) -> Tensor:
        return weighted(masked_scores(network, activations, image, make_mask)(1.0).softmax(1), activations)

    expected, theirs = scorecam(reference.resized_then_scaled), scorecam(mask)
    found = peer(network, layer, image)
    assert largest_difference(ours(network, layer, "scorecam", image), expected) < 1e-5
    if found.shape != theirs.shape:  # pytorch-grad-cam resizes the map, and then scales it again
        theirs = minmax(resize(theirs, found.shape[1:]))
    assert largest_difference(found, theirs) < 1e-5
    assert largest_difference(scorecam(mask), expected) > VISIBLE


@differs("iscam", TORCHCAM, right="ours")
def test_iscam_starts_at_zero() -> None:
    # torchcam's first factor is the paper's second, and so on: its masks are brighter.
    network, layer, image = nets.plain()
    activations, _ = layer_values(network, layer, image)
    score = masked_scores(network, activations, image, reference.resized_then_scaled)

    def iscam(factors: list[float]) -> Tensor:
        return weighted(torch.stack([score(factor) for factor in factors]).mean(0).softmax(1), activations)

    peer = torch_cam("ISCAM", num_samples=4)(network, layer, image)
    cam = ours(network, layer, "iscam", image, options={"samples": 4})
    assert largest_difference(cam, iscam(paper_factors(4))) < 1e-5
    assert largest_difference(peer, iscam(peer_factors(4))) < 1e-5
    assert largest_difference(cam, peer) > VISIBLE


def test_sscam_of_other_noise() -> None:
    # torchcam draws noise for every channel from the global generator: the second call has another map.
    assert inspect.signature(torchcam.methods.SSCAM).parameters["num_samples"].default == 35
    network, layer, image = nets.plain()
    torch.manual_seed(5)
    maps = [torch_cam("SSCAM", num_samples=3, std=0.5)(network, layer, image) for _ in range(2)]
    assert largest_difference(*maps) > VISIBLE
    options = {"samples": 3, "noise": 0.5}
    again = [ours(network, layer, "sscam", image, options=options) for _ in range(2)]
    assert torch.equal(*again)


@torch.no_grad()
def without(network: nn.Module, layer: str, image: Tensor, activations: Tensor) -> Tensor:
    """Scores ``(N, K)`` of the network where one channel of the layer after the other is zero."""
    columns = []
    for k in range(activations.shape[1]):
        changed = activations.clone()
        changed[:, k] = 0.0
        hook = partial(lambda output, *_: output, changed.float())
        handle = network.get_submodule(layer).register_forward_hook(hook)
        columns.append(class_scores(network(image)))
        handle.remove()
    return torch.stack(columns, 1).double()


@differs("ablationcam", GRAD_CAM, right="ours")
def test_ablationcam_of_a_negative_score() -> None:
    # The peer divides the drop by the score itself: the map of a negative score is upside down.
    network, layer, image = nets.plain()
    activations, _ = layer_values(network, layer, image)
    score = class_scores(network(image)).detach().double()
    assert sorted(score.sign().tolist()) == [-1, 1]
    drops = score.unsqueeze(1) - without(network, layer, image, activations)
    peer = grad_cam("AblationCAM")(network, layer, image)
    assert largest_difference(ours(network, layer, "ablationcam", image), weighted(drops, activations)) < 1e-4
    assert largest_difference(peer, weighted(drops / score.unsqueeze(1), activations)) < 1e-4
    assert largest_difference(peer[score < 0], weighted(drops, activations)[score < 0]) > 0.1


def test_ablationcam_of_negative_activations() -> None:
    # The paper removes a channel by zero. Where a layer has negative values, the peer writes its minimum less 1e7.
    network, layer, image = nets.plain()
    network.features[3] = nn.Tanh()
    activations, _ = layer_values(network, layer, image)
    score = class_scores(network(image)).detach().double()
    drops = score.unsqueeze(1) - without(network, layer, image, activations)
    assert largest_difference(ours(network, layer, "ablationcam", image), weighted(drops, activations)) < 1e-4
    upright = score > 0  # the maps of negative scores differ for another reason
    assert upright.any()
    peer = grad_cam("AblationCAM")(network, layer, image)
    assert largest_difference(peer[upright], weighted(drops, activations)[upright]) > 0.1
