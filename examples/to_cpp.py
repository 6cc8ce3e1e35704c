# %% [markdown]
# # From a network of your own to C++
#
# The artifact holds the network, the map, the preparation of photos and the names of the classes. The C++ program
# reads all of it, so it needs nothing else.

# %%
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import explainable_model as xm

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3),
).eval()  # fmt: skip
prepare = xm.Preprocess((64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resize=72)

# %% [markdown]
# Two artifacts: TorchScript for libtorch, ONNX for ONNX Runtime. Each is compared with the network before it gets its
# name.

# %%
explainable = xm.ExplainableModel(network, "2", method="layercam")
image = torch.randn(1, 3, 64, 64)
for name in ("mine.ts", "mine.onnx"):
    xm.export(explainable, name, image, preprocess=prepare, class_names=["cat", "dog", "bird"])
    print(name, Path(name).stat().st_size, "bytes")

# %% [markdown]
# The answer in Python, which the C++ program must repeat:

# %%
Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 100, 3), np.uint8)).save("photo.png")
answers = {name: xm.explain("photo.png", name) for name in ("mine.ts", "mine.onnx")}
for name, answer in answers.items():
    print(name, answer.class_name, answer.hottest)

# %% [markdown]
# Build the program once, from the root of a clone:
#
# ```
# cmake -S export/libtorch -B build/libtorch && cmake --build build/libtorch
# build/libtorch/explain photo.png mine.ts -o overlay.png --json
# ```
#
# Where it was built and is on the `PATH`, this cell calls it:

# %%
program = shutil.which("explain")
if program is not None:
    run = [program, "photo.png", "mine.ts", "-o", "overlay.png", "--json"]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    print(json.loads(done.stdout)["photos"][0]["class_name"], "in C++")
