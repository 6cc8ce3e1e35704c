"""Targets make the score that is explained, one per image and class, from the network's output."""

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
