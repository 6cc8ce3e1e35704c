"""Thin adapters: one network, layer, batch and class through this library and through each of the peers.

Every adapter takes ``(network, layer, image)`` and returns maps ``(N, *spatial)`` in [0, 1]. It hands the peer a
copy of the network, so that nothing stays behind in the next one.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import captum.attr
import pytorch_grad_cam
import torch
import torchcam.methods
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from explainable_model import ExplainableModel
from explainable_model.attribution.noise import gaussian_noise
from explainable_model.attribution.postprocess import minmax

CLASSES = [3, 1]
SAMPLES = 3
Explain = Callable[[nn.Module, Any, Tensor], Tensor]  # the layer is a name, or a list of names


def ours(network: nn.Module, layer: str | list[str] | None, method: str, image: Tensor, **arguments: Any) -> Tensor:
    """The public call for ``CLASSES`` or ``class_idx``, at the resolution of the layer or as ``upsample`` says."""
    arguments.setdefault("upsample", False)
    class_idx = arguments.pop("class_idx", CLASSES[: len(image)])
    return ExplainableModel(network, layer, method, **arguments)(image, class_idx).cam


def finished(cam: Tensor) -> Tensor:
    """Rectified and scaled to [0, 1], as every library finishes a map."""
    return minmax(cam.detach().relu())


def largest_difference(cam: Tensor, expected: Tensor) -> float:
    """The largest difference of two maps in [0, 1]; neither may be empty, nor a map of zeros."""
    assert cam.shape == expected.shape
    assert min(float(cam.amax()), float(expected.amax())) > 0.5
    return float((cam - expected).abs().max())


# pytorch-grad-cam: maps at the size of the image.


def grad_cam(kind: str, *, targets: list[Callable[[Tensor], Tensor]] | None = None, **call: Any) -> Explain:
    """A class of pytorch-grad-cam."""
    chosen = targets or [ClassifierOutputTarget(class_idx) for class_idx in CLASSES]

    def explain(network: nn.Module, layer: str, image: Tensor) -> Tensor:
        return of_layers(kind, network, [layer], image, chosen, **call)

    return explain


def of_layers(
    kind: str, network: nn.Module, layers: list[str], image: Tensor, targets: list[Any], **call: Any
) -> Tensor:
    """The map of pytorch-grad-cam for several layers. FullGrad finds its layers itself."""
    peer = copy.deepcopy(network)
    modules = [] if kind == "FullGrad" else [peer.get_submodule(layer) for layer in layers]
    options = {"reshape_transform": call.pop("reshape_transform")} if "reshape_transform" in call else {}
    with getattr(pytorch_grad_cam, kind)(model=peer, target_layers=modules, **options) as explainer:
        return torch.from_numpy(explainer(input_tensor=image, targets=targets[: len(image)], **call))


def grad_cam_guided(network: nn.Module, _: str, image: Tensor) -> Tensor:
    """Guided backpropagation, which takes one image and returns ``(H, W, C)``; reduced as saliency is."""
    model = pytorch_grad_cam.GuidedBackpropReLUModel(copy.deepcopy(network))
    gradients = [torch.from_numpy(model(image[n : n + 1].clone(), CLASSES[n])) for n in range(len(image))]
    return minmax(torch.stack(gradients).abs().amax(3))


# torchcam: maps at the size of the layer.


def torch_cam(kind: str, *, noise: Callable[[Tensor], Iterable[Tensor]] | None = None, **options: Any) -> Explain:
    """A class of torchcam for ``CLASSES`` or ``class_idx``; ``noise`` makes draws for an image that replace its own."""
    class_idx = options.pop("class_idx", CLASSES)

    def explain(network: nn.Module, layer: str, image: Tensor) -> Tensor:
        peer = copy.deepcopy(network)
        with getattr(torchcam.methods, kind)(peer, layer, **options) as extractor:
            if noise is not None:
                draws = iter(noise(image))
                extractor._distrib.sample = lambda size: next(draws).expand(size)
            scores = peer(image)
            classes = class_idx[: len(image)] if isinstance(class_idx, list) else class_idx
            return extractor(classes, scores)[0].detach()

    return explain


# captum: attributions of every channel, which the adapter reduces to a map as this library does.


def captum_layer(
    kind: str, reduce: Callable[[Tensor], Tensor] = lambda shares: shares.sum(1).relu(), **call: Any
) -> Explain:
    """A layer attribution of captum."""

    def explain(network: nn.Module, layer: str, image: Tensor) -> Tensor:
        peer = copy.deepcopy(network)
        attribution = getattr(captum.attr, kind)(peer, peer.get_submodule(layer))
        return minmax(reduce(attribution.attribute(leaf(image), target=targets_of(image), **call).detach()))

    return explain


def captum_image(kind: str, reduce: Callable[[Tensor], Tensor], **call: Any) -> Explain:
    """An attribution of captum at the image itself."""

    def explain(network: nn.Module, _: str, image: Tensor) -> Tensor:
        attribution = getattr(captum.attr, kind)(copy.deepcopy(network))
        return minmax(reduce(attribution.attribute(leaf(image), target=targets_of(image), **call).detach()))

    return explain


def captum_smoothgrad(network: nn.Module, _: str, image: Tensor, kind: str = "smoothgrad", **saliency: Any) -> Tensor:
    """Captum's noise tunnel around its saliency, with the noise of this library in place of its own."""
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(copy.deepcopy(network)))
    draws = noise_of_image(image, SAMPLES).transpose(0, 1).flatten(0, 1)  # all copies of an image, then the next image
    with patch.object(torch, "normal", lambda *_: draws):
        shares = tunnel.attribute(leaf(image), nt_type=kind, target=targets_of(image), nt_samples=SAMPLES, **saliency)
    return minmax(largest_magnitude(shares.detach()))


def captum_occlusion(network: nn.Module, _: str, image: Tensor) -> Tensor:
    """Captum's occlusion by windows of 2 pixels, one apart, through all channels."""
    dims = image.ndim - 2
    occlusion = captum.attr.Occlusion(copy.deepcopy(network))
    window, strides = (image.shape[1], *[2] * dims), (image.shape[1], *[1] * dims)
    shares = occlusion.attribute(image, target=targets_of(image), sliding_window_shapes=window, strides=strides)
    return finished(shares.mean(1))


def captum_ablation(network: nn.Module, layer: str, image: Tensor) -> Tensor:
    """Ablation-CAM from captum's layer feature ablation: the drop without channel k weights channel k."""
    peer = copy.deepcopy(network)
    module = peer.get_submodule(layer)
    activations = captum.attr.LayerActivation(peer, module).attribute(image).detach()
    channels = torch.arange(activations.shape[1]).reshape(1, -1, *[1] * (activations.ndim - 2))
    mask = channels.expand(activations[:1].shape)
    drop = captum.attr.LayerFeatureAblation(peer, module).attribute(image, target=targets_of(image), layer_mask=mask)
    return finished((drop.flatten(2)[:, :, 0].reshape(*drop.shape[:2], *[1] * (drop.ndim - 2)) * activations).sum(1))


def noise_of_image(image: Tensor, samples: int) -> Tensor:
    """The noise ``(samples, N, C, *spatial)`` of this library: 0.15 of the range of each image."""
    dims = tuple(range(1, image.ndim))
    return 0.15 * (image.amax(dims, True) - image.amin(dims, True)) * gaussian_noise(image, samples, 0).unsqueeze(1)


def noise_of_masks(image: Tensor, samples: int) -> Tensor:
    """The noise ``(samples, 1, *spatial)`` of this library for the masks of SS-CAM, of standard deviation 0.5."""
    return 0.5 * gaussian_noise(image[:, :1], samples, 0)


def targets_of(image: Tensor) -> Tensor:
    return torch.tensor(CLASSES[: len(image)])


def leaf(image: Tensor) -> Tensor:
    """A copy that requires a gradient: captum warns where it has to ask for one itself."""
    return image.detach().clone().requires_grad_()


def largest_magnitude(shares: Tensor) -> Tensor:
    """The reduction of saliency, which the adapters hand to captum's attributions."""
    return shares.abs().amax(1)


def rectified_sum(shares: Tensor) -> Tensor:
    """The reduction of input x gradient: sum over the channels, evidence for the class alone."""
    return shares.sum(1).relu()
