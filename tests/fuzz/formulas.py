"""The maps of the methods, each written from its paper for one image: no code of the package but its fixed noise.

Where the package documents that it differs from a paper (a pole, a sign), the formula here follows the docstring.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from explainable_model.attribution.noise import gaussian_noise
from tests.fuzz.image_formulas import expected_gradients, occlusion
from tests.fuzz.sight import Sight, Undefined

POLE = 1e-3  # the share of its terms below which the package no longer trusts a denominator
GAP = 0.97  # of the two largest singular values: above it, Eigen-CAM is documented to be a mixture


def _weigh(weights: Tensor, maps: Tensor) -> Tensor:
    return torch.tensordot(weights, maps, dims=1)


def _flat(maps: Tensor) -> Tensor:
    return maps.reshape(maps.shape[0], -1)


def gradcam(sight: Sight) -> Tensor:
    return _weigh(_flat(sight.gradients).mean(1), sight.activations)


def hirescam(sight: Sight) -> Tensor:
    return (sight.gradients * sight.activations).sum(0)


def layercam(sight: Sight) -> Tensor:
    return (sight.gradients.clamp(min=0) * sight.activations).sum(0)


def elementwise(sight: Sight) -> Tensor:
    return (sight.gradients * sight.activations).clamp(min=0).sum(0)


def xgradcam(sight: Sight) -> Tensor:
    a, g = _flat(sight.activations), _flat(sight.gradients)
    weights = []
    for channel, slope in zip(a, g, strict=True):
        total, size = float(channel.sum()), float(channel.abs().sum())
        if size == 0:
            weights.append(torch.zeros((), dtype=a.dtype))
            continue
        if abs(abs(total) - POLE * size) < 1e-9 * size or abs(total) < 1e-12 * size:
            raise Undefined("activations cancel")
        safe = total if abs(total) > POLE * size else (POLE * size if total > 0 else -POLE * size)
        weights.append((slope * channel).sum() / safe)
    return _weigh(torch.stack(weights), sight.activations)


def _coefficients(second: Tensor, third: Tensor) -> Tensor:
    """``second / (2 second + third)``, zero where the denominator is not safely positive."""
    denominator, terms = 2 * second + third, 2 * second + third.abs()
    if bool(((denominator - POLE * terms).abs() < 1e-7 * terms).any()):
        raise Undefined("pole of Grad-CAM++")
    return torch.where(denominator > POLE * terms, second / denominator, 0.0)


def gradcam_plus_plus(sight: Sight) -> Tensor:
    g, total = _flat(sight.gradients), _flat(sight.activations).sum(1, keepdim=True)
    alpha = _coefficients(torch.ones_like(g), total * g)  # g^2 / (2 g^2 + S g^3), reduced
    return _weigh((alpha * g.clamp(min=0)).sum(1), sight.activations)


def _noisy(sight: Sight) -> list[Tensor]:
    samples, noise = sight.options["samples"], sight.options["noise"]
    spread = noise * (sight.image.max() - sight.image.min())
    return [sight.image + spread * drawn for drawn in gaussian_noise(sight.image, samples, 0)]


def smoothgradcam_plus_plus(sight: Sight) -> Tensor:
    gradients = torch.stack([_flat(sight.tail_gradient(copy)) for copy in _noisy(sight)])
    first, second, third = (gradients.pow(power).mean(0) for power in (1, 2, 3))
    zero = second == 0
    total = _flat(sight.activations).sum(1, keepdim=True)
    alpha = _coefficients(second.masked_fill(zero, 1.0), (total * third).masked_fill(zero, 0.0))
    return _weigh((alpha * first.clamp(min=0)).masked_fill(zero, 0.0).sum(1), sight.activations)


def _project(matrix: Tensor, reference: Tensor) -> Tensor:
    """Positions times channels on the first right singular vector, turned towards a reference."""
    if not bool(matrix.any()):
        return torch.zeros(matrix.shape[0], dtype=matrix.dtype)
    _, values, vectors = torch.linalg.svd(matrix, full_matrices=False)
    if len(values) > 1 and values[1] > GAP * values[0]:
        raise Undefined("two singular values are nearly equal")
    cam = matrix @ vectors[0]
    inner = (cam * reference).sum()
    if inner.abs() < 1e-9 * cam.norm() * reference.norm():
        raise Undefined("the sign of the singular vector is open")
    return cam if inner > 0 else -cam


def eigencam(sight: Sight) -> Tensor:
    matrix = _flat(sight.activations).T
    return _project(matrix, matrix.abs().mean(1)).reshape(sight.activations.shape[1:])


def eigengradcam(sight: Sight) -> Tensor:
    matrix = _flat(sight.activations * sight.gradients).T
    return _project(matrix, matrix.sum(1)).reshape(sight.activations.shape[1:])


def segeigencam(sight: Sight) -> Tensor:
    matrix = _flat(sight.activations * sight.gradients.abs()).T
    centered = matrix - matrix.mean(0)
    cam = _project(centered, centered[:, centered.abs().sum(0).argmax()])
    high, low = cam.max(), -cam.min()
    if (high - low).abs() < 1e-6 * high:
        raise Undefined("both ends are equally far from zero")
    return (cam if high > low else -cam).reshape(sight.activations.shape[1:])


def fem(sight: Sight) -> Tensor:
    flat = _flat(sight.activations)
    mean, sigma = flat.mean(1, keepdim=True), flat.std(1, keepdim=True, correction=0)
    above = flat - mean - 2 * sigma
    if bool((above.abs() < 1e-9 * flat.abs().amax(1, keepdim=True)).any()):
        raise Undefined("a value two standard deviations above the mean")
    return _weigh(mean.squeeze(1), (above > 0).to(flat)).reshape(sight.activations.shape[1:])


def kpcacam(sight: Sight) -> Tensor:
    rows = _flat(sight.activations).T
    centered = rows - rows.mean(0)
    kernel = torch.tanh(centered @ centered.T / rows.shape[1] + 1)
    center = torch.eye(len(rows), dtype=rows.dtype) - 1 / len(rows)
    values, vectors = torch.linalg.eigh(center @ kernel @ center)
    shift = values.norm() / 2
    if values[-2] + shift > GAP * (values[-1] + shift) or values[-1] < 1e-9 * rows.abs().max():
        raise Undefined("two eigenvalues are nearly equal")
    inner = (vectors[:, -1] * rows.abs().mean(1)).sum()
    if inner.abs() < 1e-9 * rows.abs().mean(1).norm():
        raise Undefined("the sign of the eigenvector is open")
    return (values[-1].sqrt() * vectors[:, -1] * inner.sign()).reshape(sight.activations.shape[1:])


def finercam(sight: Sight) -> Tensor:
    values, column = sight.values, sight.column
    gaps = [(abs(float(value - values[column])), k) for k, value in enumerate(values) if k != column]
    near = sorted(gaps)[: sight.options["references"]]
    if len(gaps) > len(near) and abs(sorted(gaps)[len(near)][0] - near[-1][0]) < 1e-9:
        raise Undefined("two classes are equally far")
    weights = torch.zeros_like(values)
    weights[column] = 1.0
    for _, k in near:
        weights[k] -= sight.options["gamma"] / len(near)
    return _weigh(_flat(sight.compare(weights)).mean(1), sight.activations)


def shapleycam(sight: Sight) -> Tensor:
    leaf = sight.activations.clone().requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        score = sight.tail(leaf.unsqueeze(0)).sum()
    (gradient,) = torch.autograd.grad(score, leaf, create_graph=True)
    product = torch.zeros_like(leaf)
    if gradient.requires_grad:
        (found,) = torch.autograd.grad((gradient * sight.activations).sum(), leaf, allow_unused=True)
        product = product if found is None else found
    weights = _flat(gradient.detach() - product / 2).mean(1)
    return _weigh(weights, sight.activations)


def _enlarge(maps: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return functional.interpolate(maps, size=tuple(size), mode="nearest" if mode == "nearest" else linear)


def _masks(sight: Sight) -> Tensor:
    """``(K, 1, *size)``: each channel at image size, scaled to [0, 1]."""
    size = sight.image.shape[2:]
    masks = []
    for channel in sight.activations:
        large = _enlarge(channel[None, None], size)[0]
        spread = large.max() - large.min()
        varies = channel.max() > channel.min()
        masks.append((large - large.min()) / spread if varies else torch.zeros_like(large))
    return torch.stack(masks)


def scorecam(sight: Sight) -> Tensor:
    return _weigh(torch.softmax(sight.rerun(sight.image * _masks(sight)), 0), sight.activations)


def iscam(sight: Sight) -> Tensor:
    samples, masks = sight.options["samples"], _masks(sight)
    factors = [sum(range(i)) / samples for i in range(2, samples + 1)]  # those of 0 and 1 are zero
    scores = torch.stack([sight.rerun(sight.image * masks * factor) for factor in factors])
    return _weigh(torch.softmax(scores.sum(0) / samples, 0), sight.activations)


def sscam(sight: Sight) -> Tensor:
    masks = _masks(sight)
    drawn = sight.options["noise"] * gaussian_noise(sight.image[:, :1], sight.options["samples"], 0)
    scores = torch.stack([sight.rerun(sight.image * (masks + noise)) for noise in drawn])
    return _weigh(torch.softmax(scores.mean(0), 0), sight.activations)


def ablationcam(sight: Sight) -> Tensor:
    score, channels = sight.values[sight.column], len(sight.activations)
    ablated = torch.stack([sight.activations.clone() for _ in range(channels)])
    for k in range(channels):
        ablated[k, k] = 0
    drop = score - sight.tail(ablated)
    return _weigh(drop / max(float(score.abs()), 1e-6 * float(drop.abs().max()), 1e-300), sight.activations)


def reciprocam(sight: Sight) -> Tensor:
    grid = sight.activations.shape[1:]
    alone = torch.eye(grid.numel(), dtype=sight.image.dtype).reshape(-1, 1, *grid)
    cam = sight.tail(sight.activations * alone).reshape(grid)
    return cam - cam.min()


def saliency(sight: Sight) -> Tensor:
    return sight.image_gradient(sight.image).abs().amax(0)


def guided_backprop(sight: Sight) -> Tensor:
    return sight.guided_gradient(sight.image).abs().amax(0)


def guided_gradcam(sight: Sight) -> Tensor:
    cam, size = gradcam(sight).clamp(min=0), sight.image.shape[2:]
    return _enlarge(cam[None, None], size, sight.upsample)[0, 0] * guided_backprop(sight)


def inputxgradient(sight: Sight) -> Tensor:
    return (sight.image[0] * sight.image_gradient(sight.image)).sum(0)


def smoothgrad(sight: Sight) -> Tensor:
    return torch.stack([sight.image_gradient(copy) for copy in _noisy(sight)]).mean(0).abs().amax(0)


def integrated_gradients(sight: Sight) -> Tensor:
    steps = sight.options["steps"]
    path = [sight.image * ((m - 0.5) / steps) for m in range(1, steps + 1)]
    mean = torch.stack([sight.image_gradient(image) for image in path]).mean(0)
    return (sight.image[0] * mean).sum(0)


def smoothgrad_sq(sight: Sight) -> Tensor:
    return torch.stack([sight.image_gradient(copy) for copy in _noisy(sight)]).square().mean(0).amax(0)


def vargrad(sight: Sight) -> Tensor:
    return torch.stack([sight.image_gradient(copy) for copy in _noisy(sight)]).var(0, unbiased=False).amax(0)


FORMULAS: dict[str, Callable[[Sight], Tensor]] = {
    "gradcam": gradcam,
    "gradcam++": gradcam_plus_plus,
    "smoothgradcam++": smoothgradcam_plus_plus,
    "xgradcam": xgradcam,
    "layercam": layercam,
    "hirescam": hirescam,
    "elementwise": elementwise,
    "eigencam": eigencam,
    "eigengradcam": eigengradcam,
    "segeigencam": segeigencam,
    "fem": fem,
    "kpcacam": kpcacam,
    "shapleycam": shapleycam,
    "finercam": finercam,
    "cam": lambda sight: _weigh(_flat(sight.gradients).sum(1), sight.activations),
    "scorecam": scorecam,
    "iscam": iscam,
    "sscam": sscam,
    "ablationcam": ablationcam,
    "reciprocam": reciprocam,
    "vitreciprocam": reciprocam,  # with gaussian=False
    "saliency": saliency,
    "guided_backprop": guided_backprop,
    "guided_gradcam": guided_gradcam,
    "inputxgradient": inputxgradient,
    "smoothgrad": smoothgrad,
    "smoothgrad_sq": smoothgrad_sq,
    "vargrad": vargrad,
    "integrated_gradients": integrated_gradients,
    "expected_gradients": expected_gradients,
    "occlusion": occlusion,
}
"""By key of ``METHODS``."""
