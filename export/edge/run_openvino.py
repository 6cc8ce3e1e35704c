"""Explain a photo on this device with OpenVINO, check the artifact's recorded answer, and measure.

python run_openvino.py ARTIFACT.xml PHOTO [--bench figures.json --plain PLAIN.xml]
"""

import openvino
from edge import KEY, Model
from files import check_halves
from program import main


def open_model(path, threads):
    """Open an artifact or a plain network."""
    check_halves(path)
    core = openvino.Core()
    model = core.read_model(path)
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    record = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None

    def run(arrays):
        return [*request.infer(arrays).values()]

    return Model(run, record, len(model.get_ops()), "openvino", openvino.__version__.partition("-")[0])


if __name__ == "__main__":
    main(open_model, __doc__.splitlines()[0])
