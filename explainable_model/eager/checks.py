"""Checks of the network that a user gives, and of the image that goes into it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from explainable_model.attribution.inputs import check_image
from explainable_model.attribution.plan import Plan
from explainable_model.eager.signature import container_advice, ids_advice
from explainable_model.errors import ExplainableModelError, InputError, LoweringError, ModelError

MODE_DEPENDENT = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``.

    Raises:
        ModelError: not a module, a scripted one, or one with parameters that no gradient can pass.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(
            "The network is a TorchScript module, which has no forward hooks to capture a layer with; "
            "wrap the original nn.Module."
        )
    if not isinstance(model, nn.Module):
        raise ModelError(f"model is {type(model).__name__}; expected an nn.Module.")
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrap(model.module)
    original = getattr(model, "_orig_mod", None)  # torch.compile
    if isinstance(original, nn.Module):
        return unwrap(original)
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ModelError(
            "The network's parameters were made under torch.inference_mode, so no gradient can pass "
            "through them. Build or load the network outside of it."
        )
    return model


def refuse_training_mode(model: nn.Module, image: object = None, plan: Plan | None = None) -> None:
    """Refuse a network whose answer depends on the batch or on chance.

    Args:
        model: the network.
        image: ``(N, C, *spatial)``; of several images, the statistics of their batch are refused as well.
        plan: what is explained; the statistics of a batch of copies are refused, too.

    Raises:
        ModelError: the network, or a norm or dropout in it, is in training mode, or a norm has no running statistics.
    """
    if isinstance(image, Tensor) and image.ndim > 0 and len(image) > 1:
        _refuse_batch_statistics(
            model,
            f"each of the {len(image)} maps would depend on the other images. Explain one image at a time",
        )
    elif plan is not None and (plan.augment or plan.smooth is not None or plan.method.copies):
        _refuse_batch_statistics(
            model,
            f"the copies of the image that augment, smooth and method {plan.method.name!r} run would depend on each "
            "other. Choose a method without copies, such as gradcam, and leave augment and smooth out",
        )
    if model.training or _trains(model):
        name = getattr(model, "network_name", type(model).__name__)
        raise ModelError(
            f"{name} is in training mode: batch norm would use the batch and dropout would be random. Call .eval() on "
            "it first."
        )


def _trains(model: nn.Module) -> bool:
    """Whether a norm or dropout is in training mode; every call asks, so the walk is a plain one."""
    stack = [model]
    while stack:
        module = stack.pop()
        if module.training and isinstance(module, MODE_DEPENDENT):
            return True
        stack += [child for child in module._modules.values() if child is not None]
    return False


def opens_batch(model: nn.Module, *, wanted: bool) -> bool:
    """Whether a graph leaves the batch size open.

    Raises:
        ModelError: it should, and a norm without running statistics would mix the images.
    """
    if wanted:
        _refuse_batch_statistics(
            model,
            "a graph with an open batch size would mix the images of a batch. Lower or export it for one image, with "
            "dynamic_batch=False and a target layer after the norm",
        )
    return wanted


def _refuse_batch_statistics(model: nn.Module, consequence: str) -> None:
    """A batch norm without running statistics mixes the images of a batch in evaluation mode, too."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ModelError(
                f"{type(module).__name__} {name!r} has no running statistics (track_running_stats=False), so it uses "
                f"those of the batch after .eval() as well, and {consequence}, or give the norm running statistics."
            )


def refuse_nan(model: nn.Module, logits: Tensor) -> None:
    """Refuse a prediction that is not a number, in host memory: the map would be none either.

    Raises:
        ModelError: a logit is NaN.
    """
    if logits.device.type == "cpu" and bool(logits.isnan().any()):
        raise ModelError(
            f"{type(model).__name__} returned NaN logits for a finite image, so nothing can be explained. Look for "
            "weights that are NaN, a division by zero, or an overflow in half precision."
        )


def refuse_inference_tensor(model: nn.Module, tensor: Tensor) -> None:
    """Refuse a network whose forward enters inference mode, where autograd keeps nothing.

    Raises:
        ModelError: the tensor, which a layer returned, was made there.
    """
    if tensor.is_inference():
        raise ModelError(
            f"{type(model).__name__} enters torch.inference_mode() in its forward, so that nothing in it can be "
            "differentiated. Take that out of the network, decorators too, and call it, or this wrapper, inside of "
            "inference_mode instead."
        )


def check_image_for(model: nn.Module, image: Tensor) -> None:
    """Refuse an image that no network takes, or one of another dtype than the network.

    Raises:
        InputError: what is wrong with the image.
    """
    check_image(image)
    if getattr(model, "casts_image", False):  # a file whose graph does so itself
        return
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None and image.dtype != parameter.dtype and not torch.is_autocast_enabled(image.device.type):
        raise InputError(
            f"image is {image.dtype} and the network is {parameter.dtype}; convert one: "
            f"image.to({parameter.dtype}) or model.to({image.dtype})."
        )


def refuse_tracing(image: object) -> None:
    """Refuse to be traced, which would lose the gradient.

    Args:
        image: as the user gave it; ``torch.fx`` gives a stand-in.

    Raises:
        LoweringError: ``torch.export``, ``torch.onnx.export`` or ``torch.jit.trace`` is running, or ``torch.fx``.
    """
    if torch.compiler.is_exporting() or torch._C._get_tracing_state() or isinstance(image, torch.fx.Proxy):
        raise LoweringError(
            "torch.export, torch.onnx.export, torch.jit.trace and torch.fx cannot follow a network together with its "
            "gradient. Write the artifact with explainable_model.export(explainable, 'network.onnx', image) (or .ts, "
            ".pt2), or take the graph of explainable_model.lower(explainable, image)."
        )


@contextmanager
def explained_shape_errors(model: nn.Module, image: Tensor) -> Iterator[None]:
    """Say what the network takes instead of this image, where its own error does not.

    Raises:
        InputError: the network failed: it takes a container, ids, or an image without a batch, or its first convolution
            takes another number of dimensions or channels.
    """
    try:
        yield
    except ExplainableModelError:
        raise
    except (RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        advice = container_advice(model, error) or ids_advice(model, error)
        if advice is not None:
            raise InputError(advice) from error
        if f"input of size: {[1, *image.shape]}" in str(error):
            raise InputError(
                f"image has shape {tuple(image.shape)}, to which {type(model).__name__} adds a batch dimension of its "
                "own. Give it one image at a time, without the batch: ExplainableModel(network, ..., "
                "forward=lambda network, image: network(image.squeeze(0)).unsqueeze(0))."
            ) from error
        first = next((m for m in model.modules() if isinstance(m, CONVOLUTIONS)), None)
        if first is not None and len(first.kernel_size) + 2 != image.ndim:
            expected = f"(N, C, {', '.join('DHW'[-len(first.kernel_size) :])})"
            raise InputError(
                f"image has shape {tuple(image.shape)}; the first convolution of {type(model).__name__} "
                f"expects {expected}. Add a missing batch dimension with image.unsqueeze(0)."
            ) from error
        if first is not None and first.in_channels != image.shape[1]:
            raise InputError(
                f"image has shape {tuple(image.shape)}, so {image.shape[1]} channel(s); the first convolution of "
                f"{type(model).__name__} expects {first.in_channels}."
            ) from error
        raise
