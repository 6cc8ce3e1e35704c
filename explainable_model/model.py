"""The wrapper: any network in, its prediction and its class activation map out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from explainable_model.errors import InputError, LayerError, ModelError
from explainable_model.explanation import Explanation
from explainable_model.layers import ReshapeTransform, default_layer, layout_of, resolve_layer
from explainable_model.methods import find_method
from explainable_model.postprocess import finish
from explainable_model.tap import ActivationCapture, LayerTap
from explainable_model.targets import (
    check_class_idx,
    check_class_range,
    class_scores,
    find_logits,
    resolve_class_idx,
    score_gradient,
)

MODE_DEPENDENT = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Attribution(NamedTuple):
    """Logits ``(N, classes)``, class_idx ``(N,)``, activations and gradients ``(N, K, *spatial)``."""

    logits: Tensor
    class_idx: Tensor
    activations: Tensor
    gradients: Tensor


class ExplainableModel(nn.Module):
    """Wraps a trained network so that one call returns its prediction and the map that explains it.

    A forward hook captures the activations ``A`` of the target layer and starts a new graph there,
    so ``torch.autograd.grad`` differentiates only the tail of the network: ``g = d score / d A``.
    The method turns ``A`` and ``g`` into a map. The network itself is not changed.

    Args:
        model: the network, in evaluation mode. ``DataParallel`` and ``torch.compile`` are unwrapped.
        target_layer: name of a layer, the layer itself, or ``None`` for the last one with a spatial
            map that the prediction depends on (found with ``example``, or at the first call). Its
            output may be ``(N, K, h, w)``, ``(N, h, w, K)`` or tokens ``(N, T, K)``. Where it runs
            several times in one forward, the last call is explained.
        method: a key of ``METHODS``.
        normalize: scale each map to [0, 1] by its minimum and maximum; ``False`` gives the raw
            rectified map.
        upsample: resize the map to the image; ``False`` leaves it at layer resolution.
        example: ``(N, C, H, W)``, an image that the network accepts; ``torch.jit.script`` needs it.
        reshape_transform: rearranges the layer's output to ``(N, K, *spatial)`` where that cannot be
            read off its shape.

    Raises:
        LayerError: the layer is not in the network, or no layer has a spatial map.
        ModelError: the network is in training mode (batch norm would use the batch and dropout
            would be random), scripted, or holds inference tensors.
        ValueError: unknown method.

    Source: the default, Grad-CAM: Selvaraju et al. 2017, arXiv 1610.02391.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)).eval()
        >>> explainable = ExplainableModel(network, target_layer="0", example=torch.ones(1, 3, 8, 8))
        >>> logits, class_idx, cam = explainable(torch.ones(1, 3, 8, 8))
        >>> cam.shape
        torch.Size([1, 8, 8])
    """

    def __init__(
        self,
        model: nn.Module,
        target_layer: str | nn.Module | None = None,
        method: str = "gradcam",
        *,
        normalize: bool = True,
        upsample: bool = True,
        example: Tensor | None = None,
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        super().__init__()
        find_method(method)
        self.model = _unwrap(model)
        self.method = method
        self.normalize = normalize
        self.upsample = upsample
        self.example = example
        self.reshape_transform = reshape_transform
        self.training = self.model.training
        self._tap = LayerTap()
        self._mode_dependent = [m for m in self.model.modules() if isinstance(m, MODE_DEPENDENT)]
        self._target_layer = None if target_layer is None else resolve_layer(self.model, target_layer)
        self._refuse_training_mode()
        if example is not None:
            with torch.no_grad():
                self(example)  # an example that does not work should fail here, not at the export

    @property
    def target_layer(self) -> str | None:
        """Name of the layer that is explained; ``None`` until a call has found it."""
        return self._target_layer

    def forward(self, image: Tensor, class_idx: Tensor | None = None) -> Explanation[Tensor]:
        """Predict and explain.

        Works under ``no_grad`` and ``inference_mode``, with frozen parameters, and from several
        threads at once. Values (finite image, range of ``class_idx``) are checked for tensors in
        host memory only: on a GPU that would stall the stream.

        Args:
            image: ``(N, C, H, W)``, or one or three spatial dimensions; the network's dtype.
            class_idx: ``(N,)`` int64, the classes to explain; ``-1`` or ``None`` for the predicted.

        Returns:
            ``Explanation(logits, class_idx, cam)``, all detached.

        Raises:
            InputError: an image or class index that the network cannot take.
            LayerError: the target layer did not run or has no spatial map.
            ModelError: training mode, or the prediction does not depend on the layer.
        """
        logits, class_idx, activations, gradients = self.attribute(image, class_idx)
        with torch.no_grad():
            cam = find_method(self.method)(activations, gradients)
            cam = finish(cam, image.shape[2:], normalize=self.normalize, upsample=self.upsample)
        return Explanation(logits, class_idx, cam)

    def attribute(self, image: Tensor, class_idx: Tensor | None = None) -> Attribution:
        """What the CAM methods work with: the activations of the layer and the gradients of the score.

        Arguments and errors as ``forward``; the layer's output and its gradient come as
        ``(N, K, *spatial)``.
        """
        self._refuse_training_mode()
        self._check_image(image)
        if class_idx is not None:
            check_class_idx(class_idx, image.shape[0])
        with torch.inference_mode(False):
            if image.is_inference():
                image = image.clone()  # autograd cannot save a tensor made under inference_mode
            layer = self._find_target_layer(image)
            # The head runs without a graph. Where the layer sits under a no_grad of the network's
            # own, the tail would lose its graph as well: then everything runs with one.
            captured, logits = self._run(layer, image, torch.no_grad())
            if not logits.requires_grad:
                captured, logits = self._run(layer, image, torch.enable_grad())
            with torch.enable_grad():
                return self._attribute(image, class_idx, layer, captured, logits)

    def _attribute(
        self, image: Tensor, class_idx: Tensor | None, layer: str, activations: Tensor, logits: Tensor
    ) -> Attribution:
        to_map = layout_of(layer, activations, image, self.reshape_transform)
        scores = class_scores(logits, image.shape[0])
        if class_idx is not None and class_idx.device.type == "cpu":
            check_class_range(class_idx, scores.shape[1])
        if class_idx is not None:
            class_idx = class_idx.to(scores.device)
        class_idx = resolve_class_idx(class_idx, scores.detach())
        gradients = score_gradient(logits, scores, class_idx, activations) if logits.requires_grad else None
        if gradients is None:
            raise ModelError(
                f"The prediction of {type(self.model).__name__} does not depend on target_layer {layer!r} through "
                "anything that can be differentiated (a detach(), a no_grad() or an unused branch lies between). "
                "Choose a layer on the path to the output."
            )
        return Attribution(logits.detach(), class_idx, to_map(activations.detach()), to_map(gradients))

    def _run(self, layer: str, image: Tensor, grad_mode: Any) -> tuple[Tensor, Tensor]:
        """Activations of the layer, the leaf of the graph, and the logits at its end."""
        capture = ActivationCapture()
        with grad_mode, self._tap.listen(self.model.get_submodule(layer), capture), self._explain_failure(image):
            logits = find_logits(self.model(image))
        if capture.activations is None:
            raise LayerError(
                f"target_layer {layer!r} did not run, or returned no floating point tensor, in the forward of "
                f"{type(self.model).__name__}. Containers such as ModuleList never run themselves: name a layer "
                "in them."
            )
        return capture.activations, logits

    def _find_target_layer(self, image: Tensor) -> str:
        if self._target_layer is None:
            with self._explain_failure(image):
                self._target_layer = default_layer(self.model, image)
        return self._target_layer

    def _refuse_training_mode(self) -> None:
        if self.model.training or any(module.training for module in self._mode_dependent):
            raise ModelError(
                f"{type(self.model).__name__} is in training mode: batch norm would use the batch and dropout "
                "would be random. Call .eval() on it first."
            )

    def _check_image(self, image: Tensor) -> None:
        check_image(image)
        parameter = next((p for p in self.model.parameters() if p.is_floating_point()), None)
        if (
            parameter is not None
            and image.dtype != parameter.dtype
            and not torch.is_autocast_enabled(image.device.type)
        ):
            raise InputError(
                f"image is {image.dtype} and the network is {parameter.dtype}; convert one: "
                f"image.to({parameter.dtype}) or model.to({image.dtype})."
            )

    @contextmanager
    def _explain_failure(self, image: Tensor) -> Iterator[None]:
        """Say what the network would have accepted, where its own error does not."""
        try:
            yield
        except (RuntimeError, ValueError, IndexError) as error:
            first = next((m for m in self.model.modules() if isinstance(m, CONVOLUTIONS)), None)
            if first is not None and len(first.kernel_size) + 2 != image.ndim:
                expected = f"(N, C, {', '.join('DHW'[-len(first.kernel_size) :])})"
                raise InputError(
                    f"image has shape {tuple(image.shape)}; the first convolution of {type(self.model).__name__} "
                    f"expects {expected}. Add a missing batch dimension with image.unsqueeze(0)."
                ) from error
            if first is not None and first.in_channels != image.shape[1]:
                raise InputError(
                    f"image has shape {tuple(image.shape)}, so {image.shape[1]} channel(s); the first convolution of "
                    f"{type(self.model).__name__} expects {first.in_channels}."
                ) from error
            raise

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles instead of this module: the lowered graph."""
        from explainable_model.exporters.torchscript import scriptable
        from explainable_model.lowering import lower

        if self.example is None:
            raise InputError(
                "torch.jit.script(explainable) needs an example image to lower the network with: "
                "ExplainableModel(model, ..., example=image), or set explainable.example."
            )
        return scriptable(lower(self, self.example))


def check_image(image: Tensor) -> None:
    """Refuse what no network of ours takes.

    Raises:
        InputError: not a floating point tensor with a batch, channels and 1 to 3 spatial
            dimensions, empty, or (in host memory) with NaN or infinity.
    """
    if not isinstance(image, Tensor):
        raise InputError(f"image is {type(image).__name__}; expected a torch.Tensor of shape (N, C, H, W).")
    if not 3 <= image.ndim <= 5:
        hint = " Add the batch dimension: image.unsqueeze(0)." if image.ndim == 2 else ""
        raise InputError(
            f"image has shape {tuple(image.shape)}; expected (N, C, H, W) (or one or three spatial dimensions).{hint}"
        )
    if not image.is_floating_point():
        raise InputError(
            f"image is {image.dtype}; expected floating point, scaled and normalised as the network was trained "
            "(e.g. image.float() / 255)."
        )
    if image.numel() == 0:
        raise InputError(f"image is empty: shape {tuple(image.shape)}; expected at least one image.")
    if image.device.type == "cpu" and not bool(torch.isfinite(image).all()):
        raise InputError("image has NaN or infinite values; expected finite ones.")


def _unwrap(model: nn.Module) -> nn.Module:
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "The network is a TorchScript module, which has no forward hooks to capture a layer with; "
            "wrap the original nn.Module."
        )
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {type(model).__name__}; expected an nn.Module.")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _unwrap(model.module)
    original = getattr(model, "_orig_mod", None)  # torch.compile
    if isinstance(original, nn.Module):
        return _unwrap(original)
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ModelError(
            "The network's parameters were made under torch.inference_mode, so no gradient can pass "
            "through them. Build or load the network outside of it."
        )
    return model
