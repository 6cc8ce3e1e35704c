# %% [markdown]
# # Several labels at once
#
# Each label is present or absent by itself. A small network learns which colors a picture contains; then each label
# gets its own map, and the maps of one picture share a scale.

# %%
import numpy as np
import torch
from torch import nn

import explainable_model as xm

LABELS = ("red", "green", "blue")
rng = np.random.default_rng(0)


# %%
def draw(present: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """A picture (48, 48, 3) with a square of each color that is present, and where the squares lie."""
    picture = rng.integers(60, 100, (48, 48, 3), np.uint8)
    corners = [(int(x), int(y)) for x, y in zip((0, 16, 32), rng.integers(0, 36, 3), strict=True)]
    for color in np.flatnonzero(present):
        left, top = corners[color]
        picture[top : top + 12, left + 2 : left + 14] = 40
        picture[top : top + 12, left + 2 : left + 14, color] = 230
    return picture, corners


truth = rng.integers(0, 2, (96, 3))
pictures = [draw(row)[0] for row in truth]
prepare = xm.Preprocess((48, 48), mean=(0.5,) * 3, std=(0.25,) * 3, resize=None)
images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)

# %% [markdown]
# A sigmoid in the network tells the library that labels are independent; the loss takes the logits under it.

# %%
torch.manual_seed(0)
body = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 3),
)  # fmt: skip
optimizer = torch.optim.Adam(body.parameters(), lr=5e-3)
target = torch.from_numpy(truth).float()
for _ in range(60):
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(body(images), target)
    loss.backward()
    optimizer.step()
network = nn.Sequential(body, nn.Sigmoid()).eval()
print(f"loss {loss.item():.3f}")

# %% [markdown]
# `top_k=2` explains the two most likely labels. A label that is absent has nothing that speaks for it: its map would be
# zero, and a warning would say so.

# %%
picture, corners = draw(np.array([1, 0, 1]))
answers = xm.explain(
    picture, network, target_layer="0.6", preprocess=prepare, class_names=LABELS, top_k=2, shared_scale=True
)
for answer in answers:
    print(answer.label, "hottest at", answer.hottest)
answers.save("labels.png")
answers

# %% [markdown]
# Where is the evidence of a label? The share of its map inside the square of its color says it in a number.

# %%
for name in ("red", "blue"):
    left, top = corners[LABELS.index(name)]
    mask = np.zeros((48, 48))
    mask[top : top + 12, left + 2 : left + 14] = 1
    answer = xm.explain(picture, network, name, target_layer="0.6", preprocess=prepare, class_names=LABELS)
    print(f"{name}: {answer.compute_share_inside(mask):.0%} of the map in {mask.mean():.0%} of the picture")
