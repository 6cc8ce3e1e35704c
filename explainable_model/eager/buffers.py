"""Restore the buffers that a network writes to while it runs, so that one answer does not depend on earlier ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def restored_buffers(network: nn.Module) -> Iterator[None]:
    """Undo at the end whatever the network writes to its buffers inside the context.

    A running mean or a counter of calls is state, and a lowered network has none: it answers every time as the
    network would at its next call.
    """
    saved = [
        (module, name, buffer, buffer._version, buffer.detach().clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, version, value in saved:
                setattr(module, name, buffer)
                if buffer._version != version:
                    buffer.copy_(value)


@contextmanager
def frozen_parameters(network: nn.Module) -> Iterator[None]:
    """Take the gradients of the parameters away inside the context.

    A network that keeps values between calls, such as a table of biases made of its parameters, would keep their graph.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.is_leaf]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
