"""Loads trained weights from a file into a network, completely or not at all."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from explainable_model.errors import MissingRuntimeError, ModelError
from explainable_model.paths import as_path

StateDict: TypeAlias = dict[str, Tensor]

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys under which training scripts store the weights
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning
# BatchNorm's counter of training steps: missing in checkpoints from before PyTorch 0.4.1, not used in evaluation.
COUNTER = "num_batches_tracked"
SHOWN = 3
OTHER_OBJECT = re.compile(r"Unsupported (?:global: GLOBAL|class) ([\w.]+)")  # in the words of torch.load


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load trained weights; every name and every shape must match the network.

    Wrappers (``{"state_dict": ...}``) and the prefixes of DataParallel, ``torch.compile`` and Lightning are removed.

    Args:
        model: the network; unchanged where an error is raised.
        path: ``.safetensors``, or a ``state_dict`` saved with ``torch.save``.

    Raises:
        ModelError: no such file, no checkpoint, or the checkpoint of another network; the first missing, unexpected and
            mis-shaped keys are listed.
        MissingRuntimeError: safetensors is not installed.
    """
    path = as_path(path)
    expected = model.state_dict()
    state = _strip_prefixes(read_state_dict(path), expected)
    problems = [
        _format_problem("missing", [k for k in expected if k not in state and not k.endswith(COUNTER)]),
        _format_problem("unexpected", [k for k in state if k not in expected]),
        _format_problem(
            "mis-shaped",
            [
                f"{k} {tuple(state[k].shape)}, expected {tuple(expected[k].shape)}"
                for k in expected
                if k in state and state[k].shape != expected[k].shape
            ],
        ),
    ]
    if any(problems):
        raise ModelError(
            f"{path} is not a checkpoint of this {type(model).__name__}: {'; '.join(p for p in problems if p)}. "
            "Use the network that it was trained with, with the same number of classes."
        )
    model.load_state_dict(state, strict=False)  # everything but the counters was checked above


def read_state_dict(path: Path) -> StateDict:
    """Read the tensors of a checkpoint, without their wrapper.

    Raises:
        ModelError, MissingRuntimeError: as ``load_checkpoint``.
    """
    if not path.is_file():
        raise ModelError(f"There is no checkpoint {path}.")
    content = _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_pickle(path)
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        keys = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else ""
        contents = f"the keys {keys}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ModelError(f"{path} holds {contents}; expected a state dict: torch.save(model.state_dict(), path).")
    return tensors


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingRuntimeError(f"{path} needs the safetensors package: pip install safetensors.") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged or not a safetensors file: {error}.") from error


def _read_pickle(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises errors of many types on foreign files
        foreign = OTHER_OBJECT.search(str(error))
        if foreign:
            raise ModelError(
                f"{path} holds objects besides tensors, such as {foreign[1]}, as checkpoints of Lightning do. Loading "
                "them runs code of the file. If you trust its maker, write the weights to a file of their own: "
                f"{_extraction(path)}"
            ) from error
        raise ModelError(
            f"{path} cannot be read as tensors alone: it is damaged, not a PyTorch file, or holds whole Python "
            "objects, which could run code. Expected what torch.save(model.state_dict(), path) writes."
        ) from error


def _extraction(path: Path) -> str:
    """The command that writes the weights of a whole checkpoint to a file of their own."""
    source, target = json.dumps(str(path)), json.dumps(str(path.with_suffix(".weights.pth")))
    code = (
        f'import torch; c = torch.load({source}, "cpu", weights_only=False); '
        f'torch.save(dict(c.get("state_dict", c)), {target})'
    )
    return f"python -c {shlex.quote(code)}"


def _strip_prefixes(state: StateDict, expected: Mapping[str, Tensor]) -> StateDict:
    """Remove each prefix that all keys of the checkpoint have and no key of the network has."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if all(k.startswith(prefix) for k in state) and not any(k.startswith(prefix) for k in expected):
                state = {k.removeprefix(prefix): v for k, v in state.items()}
                stripped = True
    return state


def _format_problem(kind: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{kind} {', '.join(keys[:SHOWN])}{more}"
