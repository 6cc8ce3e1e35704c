"""Networks that write to their own buffers: what they are asked must not depend on what they were asked before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def restored_buffers(network: nn.Module) -> Iterator[None]:
    """Whatever the network writes to its buffers in here is undone at the end.

    A running mean or a counter of calls is state, and a lowered network has none: it answers as the
    network would at its next call, every time.
    """
    found = [
        (module, name, buffer, buffer._version, buffer.detach().clone())
        for module in network.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, version, value in found:
                setattr(module, name, buffer)
                if buffer._version != version:
                    buffer.copy_(value)
