# %% [markdown]
# # A network that is fine-tuned on a folder of photos
#
# One folder per class, as `torchvision.datasets.ImageFolder` reads it. A trained body keeps its weights and gets a new
# head, which learns two classes in seconds; then each answer shows where it looked. The folder here holds drawings: put
# your own in its place. The body is the one that comes with the demo. A ResNet of torchvision takes the same lines with
# `network.fc` for `network.classifier`, and `prepare = weights.transforms()`, which makes tensors:
# `ImageFolder(str(FOLDER), prepare)`.

# %%
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn
from torchvision.datasets import ImageFolder

import explainable_model as xm
from explainable_model.demo import efficientnet_lite0

FOLDER = Path("shapes")


# %%
def draw(shape: str, rng: np.random.Generator) -> Image.Image:
    picture = Image.fromarray(rng.integers(90, 120, (160, 160, 3), np.uint8))
    left, top = rng.integers(4, 96, 2).tolist()
    pen = ImageDraw.Draw(picture)
    (pen.ellipse if shape == "disc" else pen.rectangle)((left, top, left + 60, top + 60), fill=(230, 220, 90))
    return picture


rng = np.random.default_rng(0)
for shape in ("disc", "square"):
    (FOLDER / shape).mkdir(parents=True, exist_ok=True)
    for number in range(24):
        draw(shape, rng).save(FOLDER / shape / f"{number:02}.png")

# %% [markdown]
# The body runs once on each photo, since only the head is trained. The last eight photos of each class are the test.

# %%
torch.manual_seed(0)
base = efficientnet_lite0()
network, prepare = base.model, base.preprocess
photos = ImageFolder(str(FOLDER), lambda photo: torch.from_numpy(prepare(photo))[0])
images, labels = torch.stack([image for image, _ in photos]), torch.tensor(photos.targets)
network.classifier = nn.Identity()
with torch.no_grad():
    features = network.eval()(images)

network.classifier = nn.Linear(features.shape[1], len(photos.classes))
is_test = torch.arange(len(photos)) % 24 >= 16
optimizer = torch.optim.Adam(network.classifier.parameters(), lr=1e-3)
for _ in range(100):
    optimizer.zero_grad()
    scores = network.classifier(features[~is_test])
    nn.functional.cross_entropy(scores, labels[~is_test]).backward()
    optimizer.step()
right = network.classifier(features[is_test]).argmax(1) == labels[is_test]
print(f"accuracy on photos that it has not seen: {float(right.float().mean()):.0%}")

# %% [markdown]
# One photo:

# %%
about = {"preprocess": prepare, "class_names": photos.classes}
answer = xm.explain(FOLDER / "disc" / "20.png", network.eval(), **about)
answer.save("disc.png")
answer

# %% [markdown]
# Several, side by side:

# %%
names = ["disc/20.png", "square/20.png"]
figure = xm.grid([FOLDER / name for name in names], network, methods=["gradcam", "layercam", "finercam"], **about)
figure.savefig("methods.png")
figure

# %% [markdown]
# A pattern or a folder streams, so it may be large. A row of a table for each photo:

# %%
for each in xm.explain(str(FOLDER / "*" / "2[0-2].png"), network, **about):
    print(each.path, each.label, each.find_bounding_box(0.5))

# %% [markdown]
# The artifact knows the preparation and the names: `xm.export(xm.ExplainableModel(network), "shapes.onnx", images[:1],
# preprocess=prepare, class_names=photos.classes)`. The example [to C++](to_cpp.ipynb) takes that step.
