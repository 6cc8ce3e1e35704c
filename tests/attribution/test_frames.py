"""Images with frames: folded into the batch by the network, or cut into tokens of time and space."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainable_model import ExplainableModel, export, find_layers, load
from explainable_model.errors import InputError, LayerError
from tests.eager.test_layer_meaning import VideoTransformer
from tests.support.nets import TransformerBlock, images, seeded

CLASSES = torch.tensor([2, 0])


class FrameEncoder(nn.Module):
    """A convolution on each frame, folded into the batch, and weights for each of four frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(16, 3)

    def forward(self, video: Tensor) -> Tensor:
        return self.classify(self.conv(video.flatten(0, 1)), video.shape[0])

    def classify(self, activations: Tensor, batch: int) -> Tensor:
        return self.head(torch.tanh(activations).mean((2, 3)).reshape(batch, 16))


class FrameTokens(nn.Module):
    """Patch tokens and a class token of each frame, folded into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.block, self.head = nn.Conv2d(3, 8, 4, 4), TransformerBlock(8, 2), nn.Linear(8, 3)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.patch(video.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([tokens.mean(1, keepdim=True), tokens], 1))
        return self.head(tokens.mean(1)).reshape(video.shape[0], -1, 3).mean(1)


class FrameTubes(nn.Module):
    """Frames first, turned and cut into tubes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = VideoTransformer()

    def forward(self, video: Tensor) -> Tensor:
        return self.net(video.transpose(1, 2))


def video(frames: int = 4, size: int = 16) -> Tensor:
    return images(2, (frames, 3, size, size)).double()


@pytest.mark.parametrize("top_k", [None, 2])
def test_frames_in_the_batch_have_a_map_each(top_k: int | None) -> None:
    network = seeded(FrameEncoder()).double()
    options = {"normalize": False, "upsample": False, "signed": True, "frames": 1}
    explainable = ExplainableModel(network, "conv", top_k=top_k, **options)
    class_idx = CLASSES if top_k is None else torch.stack([CLASSES, CLASSES - 1 + 2 * (CLASSES == 0)], 1)
    maps = explainable(video(), class_idx).cam
    for column in range(top_k or 1):
        leaf = network.conv(video().flatten(0, 1)).detach().requires_grad_()
        chosen = class_idx if top_k is None else class_idx[:, column]
        score = network.classify(leaf, 2).gather(1, chosen[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, leaf)
        weights = gradient.mean((2, 3)).reshape(2, 4, 4).mean(1)  # over all frames of a video
        expected = (weights[:, None, :, None, None] * leaf.reshape(2, 4, 4, 8, 8)).sum(2).detach()
        got = maps if top_k is None else maps[:, column]
        assert expected.abs().max() > 0
        assert got.shape == (2, 4, 8, 8)
        assert (got - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize(
    ("build", "layer", "size"),
    [(FrameEncoder, "conv", 16), (FrameTokens, "block", 16), (FrameTubes, "net.blocks.1", 32)],
)
def test_the_automatic_layer_of_frames(build: type[nn.Module], layer: str, size: int) -> None:
    network, example = seeded(build()).double(), video(8 if build is FrameTubes else 4, size)
    explainable = ExplainableModel(network, frames=1)
    cam = explainable(example).cam
    assert explainable.target_layer == layer
    assert cam.shape == (*example.shape[:2], size, size)
    assert cam.amax() > 0.5
    assert layer in [candidate.name for candidate in find_layers(network, example, frames=1)]
    with pytest.raises(LayerError, match="frames=1|No layer"):
        ExplainableModel(network, layer if build is not FrameTubes else None)(example)


class FramesSecond(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, video: Tensor) -> Tensor:
        return self.net(video.transpose(1, 2))


@pytest.mark.parametrize("frames", [1, 2])
def test_score_cam_masks_each_frame(frames: int) -> None:
    """The replica masks the video with each channel's map of time, height and width."""
    network = seeded(FrameEncoder()).double()
    model = network if frames == 1 else FramesSecond(network).eval()
    options = {"normalize": False, "upsample": False, "signed": True, "frames": frames}
    layer = "conv" if frames == 1 else "net.conv"
    image = video() if frames == 1 else video().transpose(1, 2)
    got = ExplainableModel(model, layer, "scorecam", **options)(image, CLASSES).cam
    activations = network.conv(video().flatten(0, 1)).reshape(2, 4, 4, 8, 8).transpose(1, 2)  # (N, K, T, h, w)
    masks = nn.functional.interpolate(activations, (4, 16, 16), mode="trilinear").flatten(2)
    low, high = masks.amin(2, keepdim=True), masks.amax(2, keepdim=True)
    masks = ((masks - low) / (high - low)).reshape(2, 4, 4, 1, 16, 16)
    scores = torch.stack([network(video() * masks[:, k]).gather(1, CLASSES[:, None])[:, 0] for k in range(4)], 1)
    expected = (scores.softmax(1)[:, :, None, None, None] * activations).sum(1).detach()
    assert (got - expected).abs().max() < 1e-9 * expected.abs().max()


@pytest.mark.parametrize("method", ["iscam", "sscam"])
def test_methods_that_change_the_image_change_every_frame(method: str) -> None:
    network = seeded(FrameEncoder()).double()
    one = ExplainableModel(network, "conv", method, frames=1)(video(), CLASSES).cam
    other = ExplainableModel(FramesSecond(network).eval(), "net.conv", method, frames=2)(
        video().transpose(1, 2), CLASSES
    ).cam
    assert one.shape == (2, 4, 16, 16)
    assert one.amax() > 0.5
    assert torch.allclose(one, other)


def test_frames_in_an_artifact(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(FrameEncoder()), "conv", frames=1)
    session = load(export(explainable, tmp_path / "frames.ts", video().float()))
    example = images(3, (4, 3, 16, 16), seed=5)
    assert abs(session(example.numpy()).cam - explainable(example).cam.numpy()).max() < 1e-4
    assert session.metadata.frames == 1


def test_what_frames_cannot_be() -> None:
    network = seeded(FrameEncoder()).double()
    with pytest.raises(LayerError, match=r"frames is 5 for an image of shape \(2, 4, 3, 16, 16\)"):
        ExplainableModel(network, "conv", frames=5)(video())
    with pytest.raises(ValueError, match="method 'saliency' explains at the image"):
        ExplainableModel(network, method="saliency", frames=1)
    with pytest.raises(LayerError, match="changes the output of 'conv' .* frames folded into the batch"):
        ExplainableModel(network, "conv", "reciprocam", frames=1)(video())
    with pytest.raises(InputError, match="expects"):  # a frame that lacks its batch
        ExplainableModel(nn.Sequential(nn.Conv3d(3, 2, 3)).double().eval(), "0")(video()[0])
