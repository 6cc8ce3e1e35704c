"""Runs the files of a folder in the ONNX Runtime of this process, which needs onnxruntime and numpy alone.

It prints one JSON text: the version, and of each file how far its answers are from the network, or why it was refused.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def run_file(path):
    """How far the answers of one file are from those beside it."""
    answer = np.load(path.parent / (path.stem.rpartition("-")[0] + ".npz"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return {"refused": str(error).strip().splitlines()[0][-200:]}
    found = {"logits": 0.0, "cam": 0.0}
    for batch in (1, 3):
        given = {"image": answer["image"][:batch], "class_idx": answer["class_idx"][:batch]}
        logits, explained, cam = session.run(["logits", "explained_class_idx", "cam"], given)
        if explained.tolist() != answer["explained"][:batch].tolist():
            return {"logits": float("inf"), "cam": float("inf")}
        for name, values in (("logits", logits), ("cam", cam)):
            found[name] = max(found[name], float(np.abs(values - answer[name][:batch]).max()))
    return found


if __name__ == "__main__":
    files = {path.stem: run_file(path) for path in sorted(Path(sys.argv[1]).glob("*.onnx"))}
    print(json.dumps({"version": onnxruntime.__version__, "numpy": np.__version__, "files": files}))
