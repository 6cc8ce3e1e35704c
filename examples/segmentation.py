# %% [markdown]
# # Why are these pixels of this class?
#
# A small network segments discs. The score of a class is the sum of its logits over pixels: those that it was
# predicted for, or those that you mark.

# %%
import numpy as np
import torch
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, export, load, targets
from explainable_model.imaging.overlay import overlay

rng = np.random.default_rng(0)


# %%
def draw() -> tuple[np.ndarray, np.ndarray]:
    """A picture (64, 64, 3) with two discs, and its mask."""
    down, right = np.mgrid[:64, :64]
    mask = np.zeros((64, 64), bool)
    for center in ((rng.integers(12, 52), rng.integers(10, 26)), (rng.integers(12, 52), rng.integers(38, 54))):
        mask |= (down - center[0]) ** 2 + (right - center[1]) ** 2 < 81
    picture = rng.integers(40, 110, (64, 64, 3), np.uint8)
    picture[mask] += 110
    return picture, mask


def prepare(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255 - 0.5


pairs = [draw() for _ in range(24)]
images = prepare([picture for picture, _ in pairs])
masks = torch.from_numpy(np.stack([mask for _, mask in pairs])).long()

# %%
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
    nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 2, 1),
    nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False),
)  # fmt: skip
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
for _ in range(60):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(images), masks).backward()
    optimizer.step()
network.eval()
found = network(images).argmax(1)
print(f"pixels that are right: {float((found == masks).float().mean()):.0%}")

# %% [markdown]
# All pixels that were predicted to be disc:

# %%
picture, mask = draw()
image = prepare([picture])
own = ExplainableModel(network, "5", method="layercam", target=targets.Segmentation(mask="own"))
answer = own(image, class_idx=1)
overlay(Image.fromarray(picture), answer.cam[0].numpy(), box=(0, 0, 64, 64)).resize((256, 256))

# %% [markdown]
# And the left half alone: a mask is a further input of each call, and of the artifact.

# %%
chosen = ExplainableModel(network, "5", method="layercam", target=targets.Segmentation(mask="input"))
left = torch.zeros(1, 64, 64)
left[..., :32] = 1
region = chosen(image, 1, left)
share = float(region.cam[..., :36].sum() / region.cam.sum())
print(f"share of the map in the left half: {share:.0%}")
overlay(Image.fromarray(picture), region.cam[0].numpy(), box=(0, 0, 64, 64)).resize((256, 256))

# %%
export(chosen, "discs.onnx", image, left)
session = load("discs.onnx")
print(session(image.numpy(), np.array([1]), left.numpy()).cam.shape)
