"""The network and the example image that a command asks for."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from explainable_model.cli.console import Console
from explainable_model.cli.preparation import apply_preparation, count_channels
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.networks.named import NamedModel


def refuse_without_model(arguments: argparse.Namespace, *names: str, reason: str) -> None:
    """Refuse the options of these names, which say something about a network.

    Raises:
        InputError: one of them was given.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if vars(arguments)[name]]
    if given:
        raise InputError(f"{', '.join(given)} belongs to --model, which was not given: {reason}.")


def load_network(
    arguments: argparse.Namespace, console: Console, keep_graph: Sequence[str] | bool | None = None
) -> "NamedModel":
    """Load the network that the arguments name, and warn of random weights; ``keep_graph`` as ``load_named_model``."""
    console.say(f"loading {arguments.model}")
    from explainable_model.networks.named import has_random_weights, load_named_model

    named = load_named_model(
        arguments.model,
        checkpoint=arguments.checkpoint,
        pretrained=arguments.pretrained,
        classes=arguments.classes,
        keep_graph=keep_graph,
    )
    if has_random_weights(arguments.model, arguments.checkpoint, arguments.pretrained):
        console.warn(f"{arguments.model} has random weights; name trained ones with --checkpoint or --pretrained.")
    if hasattr(arguments, "class_names"):
        named = apply_preparation(named, arguments)
    given = {"output_kind": getattr(arguments, "output_kind", None), "threshold": getattr(arguments, "presence", None)}
    return replace(named, **{name: value for name, value in given.items() if value is not None})


def make_example_image(named: "NamedModel", size: tuple[int, int] | None, batch: int = 1) -> "Tensor":
    """Make seeded noise of shape ``(batch, C, *size)``.

    Raises:
        InputError: no size was given, and none is known.
    """
    import torch

    from explainable_model.explainer.explainer import find_dtype

    if size is None and named.preprocess is None and named.image_shape is not None:
        size = (named.image_shape[-2], named.image_shape[-1])
    if size is None:
        if named.preprocess is None:
            raise InputError(
                f"The image size of this {type(named.model).__name__} is unknown; give it with --size HEIGHTxWIDTH, "
                "for example --size 224x224."
            )
        size = named.preprocess.size
    channels = len(named.preprocess.mean) if named.preprocess else count_channels(named.model) or 3
    if named.image_shape is not None:
        channels = named.image_shape[0]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator).to(find_dtype(named.model))
