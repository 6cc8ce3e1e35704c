"""Check that a network takes the image as its first argument."""

import inspect

from torch import nn

from explainable_model.errors import ModelError

IMAGE_NAMES = ("pixel_values", "image", "images", "img", "imgs", "pixels", "video", "x", "input")
OTHER_NAMES = (
    "input_ids",
    "text",
    "texts",
    "tokens",
    "token_ids",
    "prompt",
    "caption",
    "captions",
    "tabular",
    "labels",
)


def check_signature(model: nn.Module, inputs: int) -> None:
    """Refuse a network that cannot be called as ``network(image, *inputs)``.

    Args:
        model: the network.
        inputs: how many extra inputs follow the image.

    Raises:
        ModelError: the image goes by keyword only, is not the first argument, or another number of inputs is needed;
            the error shows the wrapper to write.
    """
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):  # a forward without a signature, such as a compiled one
        return
    names = [name for name, p in signature.parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    image = next((name for name in IMAGE_NAMES if name in names), names[0] if names else "image")
    if names and names[0] in OTHER_NAMES and image != names[0]:
        raise ModelError(_message(model, signature, f"its first argument is {names[0]!r}, not the image", image))
    try:
        signature.bind(*range(1 + inputs))
    except TypeError as error:
        reason = f"{1 + inputs} argument(s), the image first, do not fit: {error}"
        raise ModelError(_message(model, signature, reason, image)) from error


def _message(model: nn.Module, signature: inspect.Signature, reason: str, image: str) -> str:
    parameters = ", ".join(signature.parameters)
    return (
        f"{type(model).__name__}.forward({parameters}) cannot be called as network(image, ...): {reason}. Give what it "
        "takes besides as further inputs, or wrap it:\n"
        "class ImageFirst(torch.nn.Module):\n"
        "    def __init__(self, network): super().__init__(); self.network = network\n"
        f"    def forward(self, image): return self.network({image}=image)"
    )
