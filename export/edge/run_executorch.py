"""Explain a photo on this device with ExecuTorch, check the artifact's recorded answer, and measure.

python run_executorch.py ARTIFACT.pte PHOTO [--bench figures.json --plain PLAIN.pte]

ExecuTorch's Python runtime brings PyTorch with it, for its tensors; the C++ runner and the phones' libraries do not.
"""

import warnings
from importlib import metadata

import torch
from edge import KEY, Model, main

warnings.filterwarnings("ignore", message="This API is experimental")
from executorch.extension.pybindings.portable_lib import _load_for_executorch, _unsafe_reset_threadpool  # noqa: E402


def open_model(path, threads):
    _unsafe_reset_threadpool(threads)
    module = _load_for_executorch(path)
    record = module.run_method(KEY, ())[0] if KEY in module.method_names() else None

    def run(arrays):
        return [each.numpy() for each in module.forward([torch.from_numpy(array) for array in arrays])]

    return Model(run, record, None, "executorch", metadata.version("executorch"))


if __name__ == "__main__":
    main(open_model, __doc__.splitlines()[0])
