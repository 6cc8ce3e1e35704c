"""Compares a network with ONNX Runtime on the same images, as a whole and node by node."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explainable_model.networks.onnx.inputs import TakesImages
from explainable_model.networks.onnx.network import OnnxNetwork
from explainable_model.networks.onnx.reference import Array, Reference
from explainable_model.networks.onnx.values import Value, bounded, is_numbers, tensor

TOLERANCE = 1e-4  # of the largest value of an output
LEAST = 1e-6  # smaller values than this one are compared as if it were among them
LEAST_PROBABILITY = 1e-2  # the same for a sigmoid, which ONNX Runtime computes to some 1e-7 however small it is
HALF_TOLERANCE = 2e-2
QUANTIZED_TOLERANCE = 5e-2  # an integer may be rounded to its neighbor
OPEN_BATCH = 3


def make_inputs(network: TakesImages, image_shape: Sequence[int], batch: int, seed: int = 0) -> list[Tensor]:
    """Seeded noise for every input, the image first: normal, or whole pixels where the file takes those.

    Raises:
        ModelError: the file asks for an input that would fill the memory.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for number, each in enumerate(network.inputs):
        shape = [batch, *image_shape] if number == 0 else [batch, *(size or 1 for size in each.shape[1:])]
        if number and each.shape[:1] not in ((None,), (network.inputs[0].shape[0],)):
            shape = [size or 1 for size in each.shape]
        bounded(shape)
        if each.dtype.is_floating_point:
            made.append(torch.randn(shape, generator=generator).to(each.dtype))
        elif number == 0:
            made.append(torch.randint(0, 256, shape, generator=generator).to(each.image_dtype))
        else:
            made.append(torch.randint(0, 2, shape, generator=generator).to(each.dtype))
    return made


def as_feed(network: TakesImages, inputs: Sequence[Tensor]) -> dict[str, Array]:
    """The inputs as the file takes them."""
    arrays = [each.to(given.dtype) for each, given in zip(inputs, network.inputs, strict=True)]
    if network.channels_last:
        arrays[0] = arrays[0].movedim(1, -1).contiguous()
    return {given.name: array.numpy() for given, array in zip(network.inputs, arrays, strict=True)}


def run_reference(
    reference: Reference, network: TakesImages, inputs: Sequence[Tensor], batch: int | None
) -> dict[str, Array]:
    """Run ONNX Runtime; images of a file for one batch size go one batch after the other."""
    feed = as_feed(network, inputs)
    count = inputs[0].shape[0]
    if batch is None or batch == count:
        return reference.run(feed)
    parts = [
        reference.run({k: v[begin : begin + batch] if v.ndim and len(v) == count else v for k, v in feed.items()})
        for begin in range(0, count, batch)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Difference:
    """Where a network and ONNX Runtime differ most.

    Attributes:
        value: name of the output or node's value.
        error: largest difference, as a share of the largest value.
        reason: why they cannot be compared, such as another shape; empty otherwise.
    """

    value: str
    error: float
    reason: str = ""


def compare(value: str, ours: Value, theirs: Array, least: float = LEAST) -> Difference:
    """Compare one value; ``least`` is the smallest scale that its error is a share of."""
    if is_numbers(ours):
        ours = tensor(ours)
    mine = ours.detach().to(torch.float64 if ours.is_floating_point() else torch.int64).numpy()
    other = np.asarray(theirs).astype(mine.dtype)
    if mine.shape != other.shape:
        return Difference(value, float("inf"), f"its shape is {mine.shape}, in ONNX Runtime {other.shape}")
    both = np.isfinite(mine) & np.isfinite(other)
    same = mine == other
    if not (both | same | (np.isnan(mine) & np.isnan(other)) if mine.dtype.kind == "f" else both).all():
        return Difference(value, float("inf"), "some values are infinite or NaN in one of them alone")
    if not both.any():
        return Difference(value, 0.0)
    scale = max(float(np.abs(other[both]).max()), least)
    return Difference(value, float(np.abs(mine[both] - other[both]).max()) / scale)


def least_of(network: OnnxNetwork, value: str) -> float:
    """The smallest scale that the error of a value is a share of."""
    return LEAST_PROBABILITY if network.operator_of(value) == "Sigmoid" else LEAST


def compare_outputs(
    network: OnnxNetwork, reference: Reference, batch: int | None, inputs: Sequence[Tensor]
) -> Difference:
    """The output of a network that differs most from ONNX Runtime's, which runs first: its memory is bounded."""
    theirs = run_reference(reference, network, inputs, batch)
    with torch.no_grad():
        found = network(*inputs)
    outputs = found if isinstance(found, dict) else {network.output_names[0]: found}
    differences = [compare(name, value, theirs[name], least_of(network, name)) for name, value in outputs.items()]
    return max(differences, key=lambda difference: difference.error)
