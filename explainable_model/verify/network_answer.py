"""The network's own answer to one batch, and how much each of its maps depends on rounding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.runner import Array, as_array
from explainable_model.artifact.tolerances import NOISE_SAMPLES, Tolerance

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.explanation import Explanation
    from explainable_model.lowering.imaging import PhotoIO
    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.model import ExplainableModel

OTHER_CLASSES = 3


@dataclass(frozen=True)
class NetworkAnswer:
    """One batch: its inputs, the network's answer, and how much each of its maps depends on rounding."""

    image: Array
    inputs: list[Array]
    logits: Array
    predicted: NDArray[np.int64]
    class_idx: NDArray[np.int64]
    cam: Array
    noise: NDArray[np.float64]
    overlay: Array | None = None


def answer_network(
    explainable: "ExplainableModel | LoweredModel",
    classes: int,
    image: "Tensor",
    inputs: "Sequence[Tensor]",
    tolerance: Tolerance,
    photo_io: "PhotoIO | None" = None,
) -> NetworkAnswer:
    """The network's answer to one batch: ``image`` holds photos where ``photo_io`` prepares them."""
    prepared = image if photo_io is None else photo_io.image(image)
    logits, predicted, cam = _explain(explainable, prepared, None, *inputs)
    class_idx, cam = _avoid_zero_maps(explainable, classes, prepared, predicted, cam, inputs)
    noise = _measure_noise(explainable, prepared, class_idx, cam, inputs, tolerance)
    if photo_io is not None:
        cam = photo_io.maps(cam, image)
    return NetworkAnswer(
        as_array(image),
        [as_array(tensor) for tensor in inputs],
        as_array(logits),
        predicted.cpu().numpy(),
        class_idx.cpu().numpy(),
        as_array(cam),
        noise,
        None if photo_io is None or photo_io.look is None else as_array(photo_io.overlay(cam, image)),
    )


def _avoid_zero_maps(
    explainable: "ExplainableModel | LoweredModel",
    classes: int,
    image: "Tensor",
    class_idx: "Tensor",
    cam: "Tensor",
    inputs: "Sequence[Tensor]",
) -> "tuple[Tensor, Tensor]":
    """Ask for another class of the images whose map is zero, since a map of zeros proves nothing."""
    import torch

    for _ in range(OTHER_CLASSES):
        zero = cam.flatten(1).abs().amax(1) == 0
        if classes == 1 or not bool(zero.any()):
            break
        class_idx = torch.where(zero.reshape(-1, *[1] * (class_idx.ndim - 1)), (class_idx + 1) % classes, class_idx)
        cam = _explain(explainable, image, class_idx, *inputs).cam
    return class_idx, cam


def _measure_noise(
    explainable: "ExplainableModel | LoweredModel",
    image: "Tensor",
    class_idx: "Tensor",
    cam: "Tensor",
    inputs: "Sequence[Tensor]",
    tolerance: Tolerance,
) -> NDArray[np.float64]:
    """``(N,)``: how much each map changes when the image changes by one rounding."""
    import torch

    noise = np.zeros(len(image))
    generator = torch.Generator().manual_seed(0)
    for _ in range(NOISE_SAMPLES):
        rounding = 1 + tolerance.rounding * torch.randn(image.shape, generator=generator).to(image)
        nearby = _explain(explainable, image * rounding, class_idx, *inputs).cam
        differences = [map_difference(as_array(a), as_array(b)) for a, b in zip(nearby, cam, strict=True)]
        noise = np.maximum(noise, differences)
    return noise


def measure_weight_noise(
    explainable: "ExplainableModel | LoweredModel",
    image: "Tensor",
    expected: NetworkAnswer,
    inputs: "Sequence[Tensor]",
    tolerance: Tolerance,
) -> NDArray[np.float64]:
    """``(N,)``: how much each map changes when every weight changes by one rounding, as sums in another order do.

    Without a change of the maps that the network's own kernels make, an image of noise is refused that a photo is not.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    class_idx = torch.from_numpy(expected.class_idx).to(image.device)
    exact = _explain(explainable, image, class_idx, *inputs).cam
    weights: dict[str, Tensor] = {**dict(explainable.named_parameters())}
    weights = weights or dict(explainable.named_buffers())  # a graph has buffers alone
    noise = np.zeros(len(image))
    for _ in range(NOISE_SAMPLES):
        rounded = {
            name: weight.detach() * (1 + tolerance.rounding * torch.randn(weight.shape, generator=generator).to(weight))
            for name, weight in weights.items()
            if weight.is_floating_point()
        }
        nearby = _explain(explainable, image, class_idx, *inputs, weights=rounded).cam
        differences = [map_difference(as_array(a), as_array(b)) for a, b in zip(nearby, exact, strict=True)]
        noise = np.maximum(noise, differences)
    return noise


def _explain(
    explainable: "ExplainableModel | LoweredModel",
    image: "Tensor",
    class_idx: "Tensor | None",
    *inputs: "Tensor",
    weights: "Mapping[str, Tensor] | None" = None,
) -> "Explanation[Tensor]":
    """Explain one batch, with other weights for this call; what the network writes to its buffers is undone."""
    from torch.func import functional_call

    from explainable_model.eager.buffers import restored_buffers
    from explainable_model.model import ExplainableModel

    def call(image: "Tensor") -> "Explanation[Tensor]":
        if weights is None:
            return cast("Explanation[Tensor]", explainable(image, class_idx, *inputs))
        answer = functional_call(explainable, dict(weights), (image, class_idx, *inputs))
        return cast("Explanation[Tensor]", answer)

    if not isinstance(explainable, ExplainableModel):
        return call(image)
    with restored_buffers(explainable.model):
        return call(image.clone())


def map_difference(cam: Array, want: Array) -> float:
    """Largest difference in units of the map's largest value, so that maps of any scale can be compared."""
    return float(np.abs(cam.astype(np.float64) - want).max() / (float(np.abs(want).max()) or 1.0))
