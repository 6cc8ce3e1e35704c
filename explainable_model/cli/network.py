"""The network and the example image that a command asks for."""

import argparse
from typing import TYPE_CHECKING

from explainable_model.cli.console import Console
from explainable_model.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.networks.named import NamedModel


def _refuse(arguments: argparse.Namespace, *names: str, why: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if vars(arguments)[name]]
    if given:
        raise InputError(f"{', '.join(given)} belongs to --model, which was not given; {why}.")


def _load_network(arguments: argparse.Namespace, console: Console) -> "NamedModel":
    console.say(f"loading {arguments.model}")
    from explainable_model.networks.named import has_random_weights, load_named_model

    named = load_named_model(
        arguments.model,
        checkpoint=arguments.checkpoint,
        pretrained=arguments.pretrained,
        classes=arguments.classes,
    )
    if has_random_weights(arguments.model, arguments.checkpoint, arguments.pretrained):
        console.warn(f"{arguments.model} has random weights; name trained ones with --checkpoint or --pretrained.")
    return named


def _example_image(named: "NamedModel", size: tuple[int, int] | None, batch: int = 1) -> "Tensor":
    """Seeded noise of the network's size."""
    import torch

    from explainable_model.explainer.explainer import dtype_of

    if size is None:
        if named.preprocess is None:
            raise InputError(
                f"Nothing is known about the size of the images of this {type(named.model).__name__}; give it with "
                "--size HEIGHTxWIDTH, for example --size 224x224."
            )
        size = named.preprocess.size
    first = next((m for m in named.model.modules() if isinstance(m, torch.nn.Conv2d)), None)
    channels = len(named.preprocess.mean) if named.preprocess else first.in_channels if first else 3
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, *size, generator=generator).to(dtype_of(named.model))
