"""Maps in the form that other libraries of measures ask for: Quantus, and captum."""

from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError

if TYPE_CHECKING:  # the measures of a file need no torch
    from collections.abc import Sequence

    import torch
    from torch import Tensor, nn

    from explainable_model.model import ExplainableModel

Classes: TypeAlias = "int | Sequence[int] | NDArray[Any] | Tensor | None"


def explain_func(
    model: "nn.Module",
    inputs: Any,
    targets: Classes = None,
    *,
    target_layer: "str | Sequence[str] | None" = None,
    method: str = "gradcam",
    device: "str | torch.device | None" = None,
    **arguments: Any,
) -> NDArray[np.float32]:
    """Explain a batch for Quantus: ``metric(..., explain_func=explain_func, explain_func_kwargs={"method": ...})``.

    Quantus hands in copies of the network, some with random weights, so the layer is given by name.

    Args:
        model: the network.
        inputs: images ``(N, C, *size)``, as an array or a tensor.
        targets: the class of each image; ``None`` for the predicted one.
        target_layer: name of the layer; ``None`` finds one, anew for each copy of the network.
        method: a key of ``METHODS``.
        device: where the network runs; ``None`` for where it is.
        arguments: of ``ExplainableModel``, such as ``options``; ``batch_size`` and ``softmax``, which Quantus may add,
            are left out.

    Returns:
        ``(N, 1, *size)``, not negative unless ``signed=True``.

    Raises:
        The errors of ``ExplainableModel``.
    """
    import torch

    from explainable_model.methods import find_method
    from explainable_model.model import ExplainableModel

    for added in ("batch_size", "softmax"):
        arguments.pop(added, None)
    place = next(model.parameters(), torch.empty(0)).device if device is None else torch.device(device)
    layer = target_layer if find_method(method).needs_layer else None
    explainable = ExplainableModel(model.to(place).eval(), layer, method, **arguments)
    image = torch.as_tensor(inputs).to(place, torch.float32)
    cam: Tensor = explainable(image, targets).cam
    return cam.unsqueeze(1).cpu().numpy()


class CaptumAttribution:
    """Maps of an ``ExplainableModel`` where captum expects an attribution, see ``for_captum``."""

    def __init__(self, explainable: "ExplainableModel") -> None:
        self._explainable = explainable

    @overload
    def attribute(self, inputs: "Tensor", target: Classes = ..., additional_forward_args: Any = ...) -> "Tensor": ...

    @overload
    def attribute(
        self, inputs: "tuple[Tensor]", target: Classes = ..., additional_forward_args: Any = ...
    ) -> "tuple[Tensor]": ...

    def attribute(
        self, inputs: "Tensor | tuple[Tensor]", target: Classes = None, additional_forward_args: Any = None
    ) -> "Tensor | tuple[Tensor]":
        """Explain a batch.

        Args:
            inputs: images ``(N, C, *size)``, also in a tuple of one, as captum's metrics give them.
            target: the class of each image, or one for all; ``None`` for the predicted one.
            additional_forward_args: further inputs of the network, a tensor or several.

        Returns:
            ``(N, C, *size)``: each channel holds its share of the map, so that their sum is the map.

        Raises:
            InputError: the map is not of the image's size.
        """
        from torch import Tensor

        if not isinstance(inputs, Tensor):
            (image,) = inputs
            return (self.attribute(image, target, additional_forward_args),)
        if additional_forward_args is None:
            more: tuple[Tensor, ...] = ()
        elif isinstance(additional_forward_args, Tensor):
            more = (additional_forward_args,)
        else:
            more = tuple(additional_forward_args)
        cam: Tensor = self._explainable(inputs.detach(), target, *more).cam
        if tuple(cam.shape[1:]) != tuple(inputs.shape[2:]):
            raise InputError(
                f"The map has shape {tuple(cam.shape[1:])} for an image of {tuple(inputs.shape[2:])}; captum wants one "
                "of the image's size. Leave out top_k, upsample=False and size=."
            )
        return (cam.unsqueeze(1) / inputs.shape[1]).expand_as(inputs).contiguous()  # captum asks for views of it


def for_captum(explainable: "ExplainableModel") -> CaptumAttribution:
    """Make an object whose ``attribute(inputs, target=...)`` captum's metrics and pictures take for an attribution.

    Args:
        explainable: what explains. ``signed=True`` suits measures that add up attributions, such as infidelity.
    """
    return CaptumAttribution(explainable)
