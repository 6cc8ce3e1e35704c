"""Explain a photo on this device with LiteRT, check the artifact's recorded answer, and measure.

python run_litert.py ARTIFACT.tflite PHOTO [-o overlay.png] [--bench figures.json --plain PLAIN.tflite]
"""

from importlib import metadata
from pathlib import Path

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from edge import KEY, Model
from program import main


def open_model(path, threads):
    """Open an artifact or a plain network."""
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays):
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array.astype(detail["dtype"], copy=False))  # classes are int32
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in outputs]

    return Model(run, read_metadata(path), None, "litert", metadata.version("ai-edge-litert"))


def read_metadata(path):
    """The text that an artifact keeps among its metadata; the interpreter does not tell it."""
    model = schema.Model.GetRootAs(Path(path).read_bytes())
    for entry in map(model.Metadata, range(model.MetadataLength())):
        if entry.Name() == KEY.encode():
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode()
    return None


if __name__ == "__main__":
    main(open_model, __doc__.splitlines()[0])
