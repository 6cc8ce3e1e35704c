# %% [markdown]
# # Which methods agree?
#
# Several methods on one photo with trained weights: side by side first, then in numbers.

# %%
import numpy as np

import explainable_model as xm
from explainable_model.demo import demo_photos, efficientnet_lite0

METHODS = ["gradcam", "layercam", "eigencam", "reciprocam"]
photo = demo_photos()[0]
network = efficientnet_lite0()

# %%
figure = xm.grid(photo, network, methods=METHODS)
figure.savefig("methods.png")
figure

# %% [markdown]
# The correlation of two maps is 1 where they say the same.

# %%
answers = xm.explain(photo, network, method=METHODS)
maps = np.stack([answer.cam.ravel() for answer in answers])
correlation = np.corrcoef(maps)
for name, row in zip(METHODS, correlation, strict=True):
    print(f"{name:12}", *(f"{value:6.2f}" for value in row))

# %% [markdown]
# A method that knows classes gives another map for another class. One that reads activations alone cannot.

# %%
for method in ("gradcam", "eigencam"):
    cat, other = xm.explain(photo, network, ["Egyptian cat", "espresso"], method=method)
    same = np.corrcoef(cat.cam.ravel(), other.cam.ravel())[0, 1]
    print(f"{method}: {same:.2f} between the maps of two classes")

# %% [markdown]
# Where is the map? A box at half of its maximum, and its hottest point.

# %%
for answer in answers:
    box = [round(value) for value in answer.find_bounding_box(0.5)]
    print(f"{answer.method:12} box {box}, hottest at {round(answer.hottest[0])}, {round(answer.hottest[1])}")
