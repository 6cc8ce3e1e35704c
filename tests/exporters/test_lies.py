"""Artifacts whose record, graph and answers do not belong together are refused before their first answer."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from explainable_model import load, read_metadata
from explainable_model.artifact.limits import MAX_VALUES
from explainable_model.artifact.metadata import METADATA_KEY, Metadata
from explainable_model.artifact.outputs import check_answers
from explainable_model.artifact.runner import Array
from explainable_model.errors import ArtifactError, InputError
from explainable_model.explainer.explainer import artifact_explainer
from explainable_model.imaging.preprocess import open_photo

Change = Callable[[dict[str, Any]], object]
RECORDS: dict[str, tuple[Change, str]] = {
    "batch": (
        lambda r: r.update(image_shape=[2**20, *r["image_shape"][1:]]),
        "the batch of image is 1048576, expected",
    ),
    "batches": (lambda r: r.update(logits_shape=[3, *r["logits_shape"][1:]]), "the batch of logits is 3, and that of"),
    "values": (lambda r: r.update(cam_shape=[None, 2**15, 2**15]), f"more than {MAX_VALUES} values"),
    "zero": (lambda r: r.update(cam_shape=[None, 0, 4]), r"cam_shape is \[None, 0, 4\]"),
    "negative": (lambda r: r.update(image_shape=[None, -3, 32, 32]), r"image_shape is \[None, -3, 32, 32\]"),
    "fraction": (lambda r: r.update(classes=2.5), "classes is 2.5"),
    "truth": (lambda r: r.update(classes=True), "classes is True"),
    "classes": (lambda r: r.update(classes=10**12), "classes is 1000000000000"),
    "no classes": (lambda r: r.update(classes=0), "classes is 0"),
    "names": (lambda r: r.update(class_names=["one"]), "it has 1 class_names for"),
    "top_k": (lambda r: r.update(top_k=10**6), "top_k is 1000000"),
    "text": (lambda r: r.update(image_shape="NCHW"), "image_shape is 'NCHW'"),
    "empty": (lambda r: r.update(image_shape=[]), r"image_shape is \[\]"),
    "missing": (lambda r: r.update(logits_shape=None), "logits_shape is None"),
    "photo": (
        lambda r: r["preprocess"].update(size=[65536, 65536]),
        f"the prepared image has .*more than {MAX_VALUES} values",
    ),
    "crop": (lambda r: r["preprocess"].update(size=[7, 9]), "preprocess makes an image of shape"),
    "side": (lambda r: r["preprocess"].update(size=[1, 10**9]), "a side of preprocess.size is 1000000000"),
    "resize": (lambda r: r["preprocess"].update(resize=2**31), "preprocess.resize is 2147483648"),
    "mean": (lambda r: r["preprocess"].update(mean=[float("nan")] * 3), "a mean or std that is not finite"),
    "reference": (lambda r: r["reference"].update(size=[2**31, 8]), r"reference.size is \[2147483648, 8\]"),
}


@pytest.fixture(scope="module")
def edit(artifacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``edit(change_record, change_graph)``: an ONNX artifact that lies."""
    folder = tmp_path_factory.mktemp("lies")

    def changed(change: Change | None = None, change_graph: Callable[[Any], object] | None = None) -> Path:
        model = onnx.load(artifacts["onnx"])
        (entry,) = (entry for entry in model.metadata_props if entry.key == METADATA_KEY)
        if change is not None:
            record = json.loads(entry.value)
            record["preprocess"] = record["preprocess"] or {
                "size": record["image_shape"][2:], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear",
                "resize": None,
            }  # fmt: skip
            change(record)
            entry.value = json.dumps(record)
        if change_graph is not None:
            change_graph(model.graph)
        onnx.save(model, folder / "net.onnx")
        return folder / "net.onnx"

    return changed


@pytest.fixture(scope="module", name="artifacts")
def artifacts_of_the_module(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from tests.support.cli_run import exported

    return exported(tmp_path_factory.getbasetemp() / "artifacts")


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_no_export_writes(name: str, edit: Callable[..., Path]) -> None:
    change, reason = RECORDS[name]
    load(edit(lambda record: None))
    path = edit(change)
    for read in (load, read_metadata):
        with pytest.raises(ArtifactError, match=rf"net\.onnx has .*metadata.*({reason}).*[Ee]xport it again"):
            read(path)


def _rename_outputs(graph: Any) -> None:
    """Let the logits and the maps change their names."""
    names = {"logits": "cam", "cam": "logits"}
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]


def _change(output: str, operator: str, *values: Any, **attributes: Any) -> Callable[[Any], None]:
    """A change of a graph: the operator computes the output from what it was."""

    def change(graph: Any) -> None:
        for node in graph.node:
            for tensors in (node.input, node.output):
                tensors[:] = ["before" if name == output else name for name in tensors]
        names = ["before"]
        for n, value in enumerate(values):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.int64), f"value_{n}"))
            names.append(f"value_{n}")
        names = names * attributes.pop("repeat", 1)
        graph.node.append(helper.make_node(operator, names, [output], **attributes))
        (declared,) = (value for value in graph.output if value.name == output)
        if "to" in attributes:
            declared.type.tensor_type.elem_type = attributes["to"]
        else:
            declared.type.tensor_type.ClearField("shape")

    return change


GRAPHS: dict[str, tuple[Callable[[Any], None], str]] = {
    "another order": (_rename_outputs, r"(logits|cam) has the shape .*, expected"),
    "an output less": (lambda graph: graph.output.pop(), "the outputs of the graph are .*, expected"),
    "bool": (_change("logits", "Cast", to=TensorProto.BOOL), "logits is bool, expected float32"),
    "uint8": (_change("cam", "Cast", to=TensorProto.UINT8), "cam is uint8, expected float32"),
    "double": (_change("cam", "Cast", to=TensorProto.DOUBLE), "cam is float64, expected float32"),
    "a float class": (
        _change("explained_class_idx", "Cast", to=TensorProto.FLOAT),
        "explained_class_idx is float32, expected int64",
    ),
    "empty": (_change("cam", "Slice", [0], [0], [1]), r"cam has the shape \(None, 0, .*expected"),
    "rank": (_change("cam", "Unsqueeze", [1]), r"cam has the shape .*1.*, expected"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_its_record_does_not_describe(name: str, edit: Callable[..., Path]) -> None:
    change, reason = GRAPHS[name]
    path = edit(None, change)
    with pytest.raises(ArtifactError, match=rf"net\.onnx is not what its metadata describes: {reason}"):
        load(path)


def test_an_answer_that_its_record_does_not_describe(edit: Callable[..., Path]) -> None:
    image = np.zeros((2, *read_metadata(edit()).example_shape), np.float32)
    for change, reason in (
        (_change("cam", "Concat", repeat=3, axis=0), r"cam has the shape \(6, .*, expected \(2, "),
        (_change("logits", "Concat", repeat=2, axis=0), r"logits has the shape \(4, .*, expected \(2, "),
    ):
        session = load(edit(None, change))
        with pytest.raises(ArtifactError, match=rf"not what its metadata describes: {reason}"):
            session(image)


def test_every_runtime_is_compared(artifacts: dict[str, Path]) -> None:
    metadata = read_metadata(artifacts["ts"])
    logits = np.zeros((2, *map(int, metadata.logits_shape[1:])), np.float32)  # type: ignore[arg-type]
    cam = np.zeros((2, *(n or 3 for n in metadata.cam_shape[1:])), np.float32)
    classes = np.array([0, metadata.classes - 1])
    image = np.zeros((2, *metadata.example_shape), np.float32)

    def ask(metadata: Metadata, *outputs: Array) -> Sequence[Array]:
        return check_answers(lambda *arrays: outputs, metadata, "net.ts")(image)

    assert ask(metadata, logits, classes, cam)[2] is cam
    for outputs, reason in (
        ((logits, classes), "it gave 2 outputs, expected 3"),
        ((logits, classes, cam, cam), "it gave 4 outputs, expected 3"),
        ((logits.astype(bool), classes, cam), "logits is bool, expected float32"),
        ((logits, classes.astype(np.int32), cam), "explained_class_idx is int32, expected int64"),
        ((logits, classes, cam[:, :0]), "cam has the shape"),
        ((logits, classes, cam[None]), "cam has the shape"),
        ((logits[:1], classes, cam), r"logits has the shape \(1, "),
        ((logits, classes - 1, cam), "it explained the class \\[-1"),
        ((logits, classes + 1, cam), "it explained the class \\[1"),
    ):
        with pytest.raises(ArtifactError, match=rf"net\.ts is not what its metadata describes: {reason}"):
            ask(metadata, *outputs)


def test_a_batch_of_large_photos_is_bounded(edit: Callable[..., Path], photos: list[Path]) -> None:
    def claim(record: dict[str, Any]) -> None:
        record.update(pixels="NCHW", sizes=[{"minimum": 1, "multiple": 1}] * 2)
        record["image_shape"] = [60_000, 3, None, None]
        for name in ("logits_shape", "cam_shape"):
            record[name] = [60_000, *record[name][1:]]

    def take_photos(graph: Any) -> None:
        image = graph.input[0].type.tensor_type
        for node in graph.node:
            node.input[:] = ["prepared" if name == "image" else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", ["image"], ["prepared"], to=TensorProto.FLOAT))
        image.elem_type = TensorProto.UINT8
        image.ClearField("shape")
        for size in ("batch", 3, "height", "width"):
            dimension = image.shape.dim.add()
            dimension.dim_value, dimension.dim_param = (0, size) if isinstance(size, str) else (size, "")
            dimension.ClearField("dim_value" if isinstance(size, str) else "dim_param")

    explainer = artifact_explainer(edit(claim, take_photos))
    with pytest.raises(InputError, match=r"takes 60000 images at once, which at \(1, 3, 48, 64\) are more than"):
        explainer.run(explainer.preprocess(open_photo(photos[0])), None)
