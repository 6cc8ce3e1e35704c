"""Make the artifact that this kit runs: EfficientNet-Lite0 with trained weights, explained at its last spatial layer.

python make.py ARTIFACT.ts
"""

import sys

import torch

from explainable_model import ExplainableModel, export
from explainable_model.demo import efficientnet_lite0

network = efficientnet_lite0()  # or your own network, with Preprocess(size, mean, std) and its class names
explainable = ExplainableModel(network.model, target_layer="bn2")
image = torch.zeros(1, 3, *network.preprocess.size)
export(explainable, sys.argv[1], image, preprocess=network.preprocess, class_names=network.class_names)
