"""Export a network of your own: python export.py cats-and-dogs.onnx (or .ts for libtorch)."""

import sys

import torch
import torchvision

from explainable_model import ExplainableModel, Preprocess, export

network = torchvision.models.resnet18(num_classes=2)  # yours, with your weights:
# network.load_state_dict(torch.load("weights.pth", weights_only=True))
preprocess = Preprocess((224, 224), resize=256)  # as in training; mean and std are ImageNet's unless given
explainable = ExplainableModel(network.eval(), target_layer="layer4")
image = torch.zeros(1, 3, *preprocess.size)
export(explainable, sys.argv[1], image, preprocess=preprocess, class_names=["cat", "dog"])
