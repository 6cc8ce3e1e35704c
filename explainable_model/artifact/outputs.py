"""Compares what a file declares, and what it answers, with its record, so that no answer is read for another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, PredictingRunner, Runner
from explainable_model.artifact.shapes import array_dtype
from explainable_model.errors import ArtifactError


@dataclass(frozen=True)
class Declared:
    """An input or output as the graph of a file declares it.

    Attributes:
        name: of the tensor.
        dtype: as PyTorch names it, such as ``float32``.
        shape: ``None`` for an open dimension; ``None`` as a whole where the graph declares no shape.
    """

    name: str
    dtype: str
    shape: Sequence[int | None] | None


def check_declared(inputs: Iterable[Declared], outputs: Iterable[Declared], metadata: Metadata, file: str) -> None:
    """Compare names, types, ranks and fixed dimensions of a graph with the record.

    Args:
        inputs: of the graph, in any order.
        outputs: of the graph, in any order.
        metadata: the record.
        file: name of the file, for the message.

    Raises:
        ArtifactError: the graph is not the one that the record describes.
    """
    record = metadata.to_dict()
    for kind, found in (("inputs", list(inputs)), ("outputs", list(outputs))):
        expected = {want.get("name", name): want for name, want in record[kind].items()}
        names = sorted(each.name for each in found)
        if names != sorted(expected):
            raise _lie(file, f"the {kind} of the graph are {', '.join(names)}, expected {', '.join(sorted(expected))}")
        for each in found:
            want = expected[each.name]
            if each.dtype != want["dtype"]:
                raise _lie(file, f"{each.name} is {each.dtype}, expected {want['dtype']}")
            if each.shape is not None and not _may_fit(each.shape, want["shape"]):
                raise _lie(file, f"{each.name} has the shape {tuple(each.shape)}, expected {tuple(want['shape'])}")


def _may_fit(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    pairs = zip(shape, expected, strict=False)
    return len(shape) == len(expected) and all(n == want or None in (n, want) for n, want in pairs)


def check_answers(runner: Runner, metadata: Metadata, file: str) -> Runner:
    """A runner that compares number, types, shapes and classes of each answer with the record.

    Args:
        runner: the artifact in its runtime.
        metadata: the record.
        file: name of the file, for the message.

    Returns:
        A ``PredictingRunner`` where the given one is.
    """
    expected = [
        (name, array_dtype(want["dtype"]), want["shape"]) for name, want in metadata.to_dict()["outputs"].items()
    ]

    def check_output(output: Array, want: tuple[str, str, Sequence[int | None]], images: int) -> None:
        name, dtype, shape = want
        if output.dtype != dtype:
            raise _lie(file, f"{name} is {output.dtype}, expected {dtype}")
        full = [images, *shape[1:]]
        if not _may_fit(output.shape, full) or 0 in output.shape:
            raise _lie(file, f"{name} has the shape {output.shape}, expected {tuple(full)}")

    def run(*arrays: Array) -> Sequence[Array]:
        outputs = runner(*arrays)
        if len(outputs) != len(expected):
            raise _lie(file, f"it gave {len(outputs)} outputs, expected {len(expected)}")
        for output, want in zip(outputs, expected, strict=True):
            check_output(output, want, len(arrays[0]))
        classes = outputs[1]
        if metadata.detection is not None:
            return outputs
        if int(classes.min()) < 0 or int(classes.max()) >= metadata.classes:
            raise _lie(file, f"it explained the class {np.ravel(classes).tolist()}, of {metadata.classes} classes")
        return [outputs[0], classes.astype(np.int64, copy=False), *outputs[2:]]

    if not isinstance(runner, PredictingRunner):
        return run
    predict_unchecked = runner.predict

    def predict(*arrays: Array) -> Array:
        logits = predict_unchecked(*arrays)
        check_output(logits, expected[0], len(arrays[0]))
        return logits

    return PredictingRunner(run, predict)


def _lie(file: str, reason: str) -> ArtifactError:
    return ArtifactError(f"{file} is not what its metadata describes: {reason}. Export it again.")
