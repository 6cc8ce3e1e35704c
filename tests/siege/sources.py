"""ONNX files that are read as networks: damaged bytes, and well-formed graphs that ask for too much."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.siege.cells import run_in_cells
from tests.siege.mutate import damaged
from tests.siege.onnx_graphs import changed_graphs, make_graphs

MEMORY_MIB = 3000.0  # a comparison on noise may take as much as the reader allows
SECONDS = 300.0  # a graph may ask for a batch of 65,536 images, or for a million columns: work, and no hang
SIZE = (16, 16)


def run(folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Damage the bytes of each file ``count`` times, and its graph as often."""
    return {
        name: run_in_cells(
            make_reader, (str(folder),), _damage(model, count, seed), memory_mib=MEMORY_MIB, seconds=SECONDS
        ).to_record()
        for name, model in make_graphs().items()
    }


def _damage(model: Any, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    yield "whole", model.SerializeToString()
    for what, changed in damaged(model.SerializeToString(), count, seed):
        yield f"bytes {what}", changed
    for what, changed in changed_graphs(model, count, seed):
        yield f"graph {what}", changed


def make_reader(folder: str) -> Callable[[bytes], str | None]:
    """Make the handler that reads a file and runs its network, which is equal to ONNX Runtime where it is read."""
    from explainable_model import from_onnx
    from explainable_model.networks.onnx.describe import describe_file

    path = Path(folder) / "graph.onnx"
    image = torch.zeros(2, 3, *SIZE)

    def read(content: bytes) -> str | None:
        path.write_bytes(content)
        describe_file(path)
        network = from_onnx(path, size=SIZE)
        shape = network.image_shape
        if shape != (3, None, None) and shape != (3, *SIZE):
            return None  # it takes other images
        found = network(image.to(network.dtype))
        return None if isinstance(found, torch.Tensor | dict) else f"the network returns {type(found).__name__}"

    return read
