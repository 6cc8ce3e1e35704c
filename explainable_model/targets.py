"""What is explained: one score per image and class, made from the network's output."""

from explainable_model.attribution.targets import (
    Binary,
    ClassScore,
    Custom,
    Difference,
    Segmentation,
    Similarity,
    Target,
)

__all__ = ["Binary", "ClassScore", "Custom", "Difference", "Segmentation", "Similarity", "Target"]
