"""TorchScript, for libtorch, TorchServe and ``torch.jit.load``."""

import copy
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.errors import ArtifactError, InputError
from explainable_model.explanation import OUTPUT_NAMES, input_names
from explainable_model.exporters.format import Format, Runner, zip_metadata
from explainable_model.metadata import METADATA_KEY, SizeRange, spatial

if TYPE_CHECKING:
    from torch import nn

    from explainable_model.lowering import LoweredModel


def scriptable(lowered: "LoweredModel") -> "nn.Module":
    """A module that ``torch.jit.script`` compiles: ``(image, class_idx=None) -> (logits, class_idx, cam)``.

    Raises:
        InputError: the network or the target takes extra inputs.
    """
    from explainable_model.exporters.scripted import ScriptedExplanation

    if lowered.example_inputs:
        raise InputError("Networks with extra inputs cannot be given to torch.jit.script: use export(..., 'net.ts').")
    return ScriptedExplanation(*_parts(lowered)).eval()


def _parts(lowered: "LoweredModel") -> tuple["nn.Module", list[int], list[int], list[int], int]:
    """The arguments of ``ScriptedParts``, with the graph in TorchScript's operators."""
    import torch
    from torch import fx

    from explainable_model.exporters.in_place import write_in_place

    graph = copy.deepcopy(lowered.graph_module.graph)
    write_in_place(graph)
    for node in graph.nodes:
        if node.target is torch.ops.aten.sym_size.int:
            node.target = torch.ops.aten.size.int
        if node.target is torch.sym_min:
            node.target = min
        if isinstance(node.target, torch._ops.OpOverload):
            node.target = node.target.overloadpacket  # TorchScript chooses the overload itself
    open_dims = spatial(range(lowered.example.ndim), lowered.pixels)
    allowed = dict(zip(open_dims, lowered.sizes, strict=True)) if lowered.sizes else {}
    ranges = [allowed.get(n, SizeRange(1)) for n in range(lowered.example.ndim)]
    return (
        fx.GraphModule(lowered.graph_module, graph),
        [-1 if n is None else n for n in lowered.image_shape],
        [each.minimum for each in ranges],
        [each.multiple for each in ranges],
        lowered.plan.top_k or 0,
    )


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Without torch.jit's word, at each call, that it is deprecated: TorchScript is what is asked for."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", category=category, message=r".*torch\.jit\..*")
        yield


def script(lowered: "LoweredModel") -> Any:
    """The lowered model as a ``torch.jit.ScriptModule``."""
    import torch

    from explainable_model.exporters.scripted import FORWARD, ScriptedParts

    with quiet_torchscript():
        outputs = len(lowered.outputs)
        if not lowered.example_inputs and outputs == len(OUTPUT_NAMES):
            return torch.jit.script(scriptable(lowered))
        names = input_names(len(lowered.example_inputs))[2:]
        default = "" if names else " = None"
        scripted = torch.jit.script(ScriptedParts(*_parts(lowered)).eval())
        scripted.define(
            FORWARD.format(
                typed="".join(f", {name}: Tensor" for name in names),
                names="".join(f", {name}" for name in names),
                default=default,
                outputs=", ".join(["Tensor"] * outputs),
            )
        )
        return scripted


def write(lowered: "LoweredModel", path: Path, metadata: str) -> None:
    """Write a ``.ts`` archive with the metadata among its extra files."""
    import torch

    module = script(lowered)
    archive = io.BytesIO()  # torch's own writer ends the whole process where the disk is full
    with quiet_torchscript():
        torch.jit.save(module, archive, _extra_files={METADATA_KEY: metadata})
    path.write_bytes(archive.getbuffer())


def open_(path: Path, threads: int | None, device: str = "cpu") -> tuple[Runner, str]:
    """Run with ``torch.jit.load``, on the CPU or, as in a server, on the device that is asked for."""
    import torch

    from explainable_model.exporters.torch_runner import torch_runner

    metadata = zip_metadata(path)
    try:
        with quiet_torchscript():
            module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ArtifactError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    return torch_runner(module, threads, device, metadata), metadata


TORCHSCRIPT = Format(
    name="torchscript",
    suffixes=(".ts", ".pt"),
    runtime="libtorch",
    write=write,
    open=open_,
    read_metadata=zip_metadata,
)
