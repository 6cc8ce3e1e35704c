# %% [markdown]
# # A fine-tuned ResNet on a folder of photos
#
# One folder per class, as `torchvision.datasets.ImageFolder` reads it. The network learns two classes in seconds, then
# each answer shows where it looked. The folder here holds drawings; put your own in its place, and start from
# `ResNet18_Weights.DEFAULT` instead of random weights.

# %%
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image, ImageDraw
from torchvision import transforms

import explainable_model as xm

FOLDER = Path("shapes")


# %%
def draw(shape: str, rng: np.random.Generator) -> Image.Image:
    picture = Image.fromarray(rng.integers(60, 120, (96, 96, 3), np.uint8))
    left, top = rng.integers(4, 56, 2).tolist()
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)((left, top, left + 36, top + 36), fill=(230, 220, 90))
    return picture


rng = np.random.default_rng(0)
for shape in ("disc", "square"):
    (FOLDER / shape).mkdir(parents=True, exist_ok=True)
    for number in range(24):
        draw(shape, rng).save(FOLDER / shape / f"{number:02}.png")

# %% [markdown]
# The transform of the evaluation is all that the library needs to know about photos.

# %%
torch.manual_seed(0)
transform = transforms.Compose(
    [transforms.Resize((64, 64)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
)
photos = torchvision.datasets.ImageFolder(str(FOLDER), transform)
images = torch.stack([image for image, _ in photos])
labels = torch.tensor(photos.targets)

network = torchvision.models.resnet18(weights=None, num_classes=len(photos.classes))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
for _ in range(12):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimizer.step()

network.eval()
for module in network.modules():  # few steps: let batch norm know the data
    if isinstance(module, torch.nn.BatchNorm2d):
        module.reset_running_stats()
        module.momentum = None
with torch.no_grad():
    network.train()(images)
    accuracy = float((network.eval()(images).argmax(1) == labels).float().mean())
print(f"accuracy on the training folder: {accuracy:.0%}")

# %% [markdown]
# One photo, then several. A folder streams.

# %%
answer = xm.explain(FOLDER / "disc" / "00.png", network, preprocess=transform, class_names=photos.classes)
answer.save("disc.png")
answer

# %%
figure = xm.grid(
    [FOLDER / "disc" / "01.png", FOLDER / "square" / "01.png"],
    network,
    layers=["layer2", "layer3", "layer4"],
    method="layercam",
    preprocess=transform,
    class_names=photos.classes,
)
figure.savefig("layers.png")
figure

# %%
for each in xm.explain(str(FOLDER / "*" / "0[0-2].png"), network, preprocess=transform, class_names=photos.classes):
    print(each.path, each.label, each.hottest)

# %% [markdown]
# Export it: the file gives the same answer without torch, and knows the preparation and the names.

# %%
example = images[:1]
preprocess = xm.NamedModel(network, transform).preprocess
xm.export(
    xm.ExplainableModel(network, "layer4"),
    "shapes.onnx",
    example,
    preprocess=preprocess,
    class_names=photos.classes,
)
print(xm.explain(FOLDER / "disc" / "00.png", "shapes.onnx"))
