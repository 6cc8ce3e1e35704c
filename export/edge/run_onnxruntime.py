"""Explain a photo on this device with ONNX Runtime, check the artifact's recorded answer, and measure.

python run_onnxruntime.py ARTIFACT.onnx PHOTO [-o overlay.png] [--bench figures.json --plain PLAIN.onnx]
"""

import onnxruntime
from edge import KEY, Model
from program import main


def open_model(path, threads):
    """Open an artifact or a plain network."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    record = session.get_modelmeta().custom_metadata_map.get(KEY)

    def run(arrays):
        return session.run(None, dict(zip(names, arrays)))

    return Model(run, record, None, "onnxruntime", onnxruntime.__version__)


if __name__ == "__main__":
    main(open_model, __doc__.splitlines()[0])
