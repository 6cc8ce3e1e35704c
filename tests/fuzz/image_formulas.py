"""Maps of methods that change the image, each written from its paper for one image."""

from itertools import product

import torch
from torch import Tensor

from explainable_model.attribution.noise import uniform_numbers
from tests.fuzz.sight import Sight


def expected_gradients(sight: Sight) -> Tensor:
    points = uniform_numbers(sight.image, 1, sight.options["samples"], 0).flatten()
    mean = torch.stack([sight.image_gradient(point * sight.image) for point in points.to(sight.image.dtype)]).mean(0)
    return (sight.image[0] * mean).sum(0)


def occlusion(sight: Sight) -> Tensor:
    window, stride = sight.options["window"], sight.options["stride"]
    drops, counts = torch.zeros(2, *sight.image.shape[2:], dtype=sight.image.dtype)
    for corner in product(*(range(0, max(1, length - window + stride), stride) for length in sight.image.shape[2:])):
        hidden = sight.image.clone()
        place = tuple(slice(start, start + window) for start in corner)
        hidden[(..., *place)] = 0
        drops[place] += sight.values[sight.column] - sight.rerun(hidden)[0]
        counts[place] += 1
    return drops / counts
