"""Make what the scripts run: EfficientNet-Lite0 with trained weights, explained at its last spatial layer, and plain.

python make.py FOLDER SUFFIX [SUFFIX ...]     # .onnx .xml .pte .tflite; writes explained<suffix> and plain<suffix>
"""

import sys
import tempfile
from pathlib import Path

import torch

from explainable_model import ExplainableModel, export
from explainable_model.demo import efficientnet_lite0


def write_plain_onnx(network, image, path):
    batch = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        network,
        (image.repeat(2, 1, 1, 1),),
        path,
        dynamo=True,
        dynamic_shapes=(batch,),
        external_data=False,
        verbose=False,
    )


def write_plain_openvino(network, image, path):
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        write_plain_onnx(network, image, Path(folder) / "plain.onnx")
        openvino.save_model(openvino.Core().read_model(Path(folder) / "plain.onnx"), path, compress_to_fp16=False)


def write_plain_executorch(network, image, path):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(network, (image,))
    path.write_bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def write_plain_litert(network, image, path):
    import litert_torch

    litert_torch.convert(network, (image,)).export(str(path))


WRITE_PLAIN = {
    ".onnx": write_plain_onnx,
    ".xml": write_plain_openvino,
    ".pte": write_plain_executorch,
    ".tflite": write_plain_litert,
}


def main(folder, *suffixes):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network = efficientnet_lite0()  # or your own network, with Preprocess(size, mean, std) and its class names
    explainable = ExplainableModel(network.model, target_layer="bn2")
    image = torch.zeros(1, 3, *network.preprocess.size)
    described = {"preprocess": network.preprocess, "class_names": network.class_names}
    for suffix in suffixes:
        export(explainable, folder / f"explained{suffix}", image, **described)
        WRITE_PLAIN[suffix](network.model, image, folder / f"plain{suffix}")


if __name__ == "__main__":
    main(*sys.argv[1:])
