# %% [markdown]
# # What looks like this text?
#
# CLIP compares a photo with texts, so the texts are its classes. This example builds a tiny CLIP *without training*,
# because nothing is downloaded: its maps mean nothing, but each line is the line for a trained one.

# %%
import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip import CLIPImageProcessor

import explainable_model as xm
from explainable_model import ExplainableModel, targets

torch.manual_seed(0)
sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
text = {**sizes, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 63}
vision = {**sizes, "image_size": 64, "patch_size": 8}
clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).eval()  # yours: CLIPModel.from_pretrained(FOLDER)
processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})

# %% [markdown]
# The tokens of the texts are fixed; a trained CLIP makes them with its tokenizer.

# %%
TEXTS = ["a photo of a cat", "a photo of a dog"]
ids = torch.tensor([[0, 5, 9, 63], [0, 7, 2, 63]])  # yours: tokenizer(TEXTS, return_tensors="pt").input_ids


def against_texts(clip: nn.Module, image: torch.Tensor) -> object:
    return clip(input_ids=ids, pixel_values=image)


explainable = ExplainableModel(clip, method="layercam", forward=against_texts, output="logits_per_image")
photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
answers = xm.explain(photo, explainable, TEXTS, preprocess=processor, class_names=TEXTS)
for answer in answers:
    print(answer)
answers


# %% [markdown]
# One embedding instead of a list of texts: the similarity of the photo to it. The embedding may be that of a text or
# of another photo.


# %%
class ImageTower(nn.Module):
    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.vision, self.projection = clip.vision_model, clip.visual_projection

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(self.vision(pixel_values=image).pooler_output)


tower = ImageTower(clip).eval()
similar = ExplainableModel(tower, method="layercam", target=targets.Similarity())
image, other = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64)
print(similar(image, None, tower(other).detach()).cam.shape)
