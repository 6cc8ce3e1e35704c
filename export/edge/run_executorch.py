"""Explain a photo on this device with ExecuTorch, check the artifact's recorded answer, and measure.

python run_executorch.py ARTIFACT.pte PHOTO [--bench figures.json --plain PLAIN.pte]

ExecuTorch's Python runtime needs PyTorch for its tensors; its C++ runner and the libraries for phones do not.
"""

import warnings
from importlib import metadata

import torch
from edge import KEY, Model
from program import main

warnings.filterwarnings("ignore", message="This API is experimental")
from executorch.extension.pybindings import portable_lib  # noqa: E402
from executorch.runtime import Runtime  # noqa: E402


def open_model(path, threads):
    """Open an artifact or a plain network."""
    portable_lib._unsafe_reset_threadpool(threads)  # ExecuTorch has no public function that sets the threads
    program = Runtime.get().load_program(path)
    record = program.load_method(KEY).execute([])[0] if KEY in program.method_names else None
    forward = program.load_method("forward")

    def run(arrays):
        return [tensor.numpy() for tensor in forward.execute([torch.from_numpy(array) for array in arrays])]

    return Model(run, record, None, "executorch", metadata.version("executorch"))


if __name__ == "__main__":
    main(open_model, __doc__.splitlines()[0])
