"""``explainable-model serve``: serve an artifact over HTTP, with the kit for LitServe."""

import argparse
import os
import sys
from importlib.util import find_spec
from typing import NoReturn

from explainable_model.cli.console import Console
from explainable_model.cli.kit_files import find_kit
from explainable_model.errors import InputError, MissingRuntimeError

SERVED = ("onnx", "torchscript")
PACKAGES = ("litserve", "multipart", "python_multipart")
LAST_PORT = 65_535


def serve(arguments: argparse.Namespace, console: Console) -> NoReturn:
    """Become the server of the kit, on 127.0.0.1; a signal reaches it as if it had been started by itself.

    Raises:
        ArtifactError: no artifact, or a damaged one.
        InputError: an artifact of another format than ONNX and TorchScript, or a port that is none.
        MissingRuntimeError: LitServe is not installed.
    """
    from explainable_model.runtime import find_artifact, read_metadata

    path, fmt = find_artifact(arguments.file)
    if fmt.name not in SERVED:
        raise InputError(f"{path} is {fmt.name}; expected .onnx or .ts, which are checked before they run.")
    read_metadata(path)
    if not 0 < arguments.port <= LAST_PORT:
        raise InputError(f"--port is {arguments.port}; expected 1 to {LAST_PORT}, for example 8000.")
    if find_spec("litserve") is None or not any(find_spec(name) for name in PACKAGES[1:]):
        raise MissingRuntimeError("serve needs LitServe: pip install 'explainable-model[litserve]'.")
    options = {"name": arguments.name, "workers": arguments.workers, "threads": arguments.threads}
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    program = find_kit("litserve") / "serve.py"
    console.say(f"serving {path} at http://127.0.0.1:{arguments.port}/")
    sys.stderr.flush()
    command = [sys.executable, str(program), str(path), f"--port={arguments.port}", *given]
    os.execv(sys.executable, command)
