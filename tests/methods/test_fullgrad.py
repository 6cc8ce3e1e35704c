"""FullGrad on whole networks: its map, and completeness: all shares add up to the score."""

import torch
from torch import Tensor, nn

from tests.methods.oracle import (
    CLASSES,
    SIZE,
    assert_equal,
    batch,
    each,
    enlarged,
    range_scaled,
    raw,
    small,
)
from tests.support.nets import SmallNet


def bias_shares(network: SmallNet, image: Tensor, class_idx: int) -> tuple[Tensor, list[Tensor]]:
    """``x g`` of the image, and the gradient at each layer with a bias times that bias; one image."""
    biased = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    outputs: list[tuple[nn.Module, Tensor]] = []
    # In-place ReLUs must not touch what is kept.
    handles = [
        module.register_forward_hook(lambda module, inputs, out: outputs.append((module, out)) or out.clone())  # type: ignore[func-returns-value]
        for module in biased
    ]
    leaf = image.clone().requires_grad_()
    logits = network(leaf)
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(logits[0, class_idx], [leaf, *(out for _, out in outputs)])
    shares = []
    for (module, _), gradient in zip(outputs, gradients[1:], strict=True):
        if isinstance(module, nn.BatchNorm2d):
            still = torch.zeros(1, module.num_features, 1, 1, dtype=torch.float64)
            with torch.no_grad():
                bias = module(still)[0, :, 0, 0]
        elif module.bias is None:
            continue
        else:
            bias = module.bias.detach()
        shares.append(gradient[0] * bias.reshape(-1, *[1] * (gradient.ndim - 2)))
    return leaf.detach()[0] * gradients[0][0], shares


def test_fullgrad() -> None:
    network, image = small(), batch()
    scores = network(image).detach()

    def oracle(image: Tensor, class_idx: int) -> Tensor:
        own, shares = bias_shares(network, image, class_idx)
        cam = sum((range_scaled(channel.abs()) for channel in own), torch.zeros(SIZE[1:], dtype=torch.float64))
        for share in shares:
            if share.ndim == 3:
                for channel in share:
                    cam = cam + enlarged(range_scaled(channel.abs()), SIZE[1:])
        return cam

    for n, class_idx in enumerate(CLASSES):
        own, shares = bias_shares(network, image[n : n + 1], class_idx)
        whole = own.sum() + sum(share.sum() for share in shares)
        assert (whole - scores[n, class_idx]).abs() < 1e-10, "all shares add up to the score"
    assert_equal(raw(network, None, "fullgrad", image), each(oracle, image))
