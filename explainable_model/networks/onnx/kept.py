"""A graph that stays as its file has it: one operator of PyTorch, which ONNX Runtime computes."""

import itertools
import threading
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from explainable_model.errors import InputError, MissingRuntimeError, ModelError, first_line
from explainable_model.telemetry import import_onnxruntime

_library: Any = torch.library.Library("explainable_model", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define("kept_graph(Tensor[] inputs, str key) -> Tensor[]")
_library.define("as_in_file(Tensor self, Tensor other) -> Tensor")

Size = int | torch.SymInt
Shapes = list[tuple[torch.dtype, list[tuple[int, int]]]]
"""Of each value: its type, and of each dimension the size and how many times the batch size it is (0: never)."""

BATCHES = (2, 3)  # two sizes tell which dimensions follow the batch


class KeptGraph:
    """A graph with some of its inner values among its outputs.

    Attributes:
        model: the graph with its weights.
        values: names of what it returns: its outputs, then the inner values.
        key: its name in the graphs of PyTorch that hold it.
    """

    def __init__(self, model: Any, inputs: Sequence[str], values: Sequence[str]) -> None:
        self.model, self.inputs, self.values = model, tuple(inputs), tuple(values)
        self.key = f"graph_{next(_numbers)}"
        self._shapes: dict[tuple[Any, ...], Shapes] = {}
        self._session: Any = None
        self._lock = threading.Lock()
        _graphs[self.key] = self

    def __deepcopy__(self, memo: Any) -> "KeptGraph":
        return self  # it has no state that anybody changes

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.model.SerializeToString(), self.inputs, self.values)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Compute the values.

        Raises:
            InputError: ONNX Runtime does not take the inputs.
        """
        feed = {name: each.detach().cpu().contiguous().numpy() for name, each in zip(self.inputs, inputs, strict=True)}
        with self._lock:
            if self._session is None:
                self._session = _open(self.model, self.values)
        try:
            found = self._session.run(list(self.values), feed)
        except Exception as error:  # onnxruntime's own exceptions share no public base class
            raise InputError(f"ONNX Runtime fails on the nodes of the file: {first_line(error)}") from error
        return [torch.from_numpy(array).to(inputs[0].device) for array in found]

    def dtype_of(self, value: str) -> np.dtype[Any]:
        """The type of a value, once the graph has been part of a graph of PyTorch."""
        dtype = next(iter(self._shapes.values()))[self.values.index(value)][0]
        return torch.empty(0, dtype=dtype).numpy().dtype

    def infer(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Empty values of the right types and shapes, where the batch size may be open.

        Raises:
            InputError: another dimension is open, or the shapes follow the batch in another way than by a factor.
        """
        batch = next((size for each in inputs for size in each.shape[:1] if not isinstance(size, int)), None)
        if any(not isinstance(size, int) for each in inputs for size in each.shape[1:]):
            raise InputError(
                "The nodes of the file are kept for one size of images: leave out dynamic_size, or read the file with "
                "from_onnx(path, keep_graph=False)."
            )
        known = (batch is not None, *((each.dtype, *each.shape[1:]) for each in inputs))
        known += () if batch is not None else tuple(each.shape[:1] for each in inputs)
        if known not in self._shapes:
            self._shapes[known] = self._measure(inputs, is_open=batch is not None)
        return [inputs[0].new_empty(_resolve(shape, batch), dtype=dtype) for dtype, shape in self._shapes[known]]

    def _measure(self, inputs: Sequence[Tensor], *, is_open: bool) -> Shapes:
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        found = []
        with unset_fake_temporarily():
            for count in BATCHES if is_open else BATCHES[:1]:
                shapes = [[n if isinstance(n, int) else count for n in each.shape] for each in inputs]
                found.append(
                    self.run([torch.zeros(s, dtype=each.dtype) for s, each in zip(shapes, inputs, strict=True)])
                )
        return [
            (values[0].dtype, [_factor(sizes) for sizes in zip(*(value.shape for value in values), strict=True)])
            for values in zip(*found, strict=True)
        ]


def _resolve(shape: Sequence[tuple[int, int]], batch: Any) -> list[Any]:
    return [times * batch if times else size for size, times in shape]


def _factor(sizes: tuple[int, ...]) -> tuple[int, int]:
    if len(set(sizes)) == 1:
        return sizes[0], 0
    factors = {size / count for size, count in zip(sizes, BATCHES, strict=True)}
    if len(factors) != 1 or not factors.copy().pop().is_integer():
        raise InputError(
            f"A value of the file has {sizes[0]} rows for {BATCHES[0]} images and {sizes[1]} for {BATCHES[1]}, which "
            "no graph with an open batch follows: export with dynamic_batch=False."
        )
    return sizes[0], int(factors.pop())


_numbers = itertools.count()
_graphs: WeakValueDictionary[str, KeptGraph] = WeakValueDictionary()


def _restore(model: bytes, inputs: Sequence[str], values: Sequence[str]) -> KeptGraph:
    from onnx import ModelProto

    return KeptGraph(ModelProto.FromString(model), inputs, values)


def _open(model: Any, values: Sequence[str]) -> Any:
    """A session with the optimizations that users' programs have, so that it computes what theirs do."""
    try:
        runtime = import_onnxruntime()
    except ImportError as error:
        raise MissingRuntimeError(
            "A network that keeps the nodes of its file runs them in ONNX Runtime: pip install "
            "'explainable-model[onnx]'."
        ) from error
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = max(torch.get_num_threads(), 1)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = with_outputs(model, values).SerializeToString()
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"ONNX Runtime does not load the file: {first_line(error)}") from error


def with_outputs(model: Any, values: Iterable[str]) -> Any:
    """The graph with further values among its outputs."""
    from onnx import ModelProto, ValueInfoProto

    copy = ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    copy.graph.output.extend(ValueInfoProto(name=name) for name in values if name not in known)
    return copy


def kept_graph(key: str) -> KeptGraph:
    """The graph of a key.

    Raises:
        ModelError: the network that it belongs to is gone.
    """
    found = _graphs.get(key)
    if found is None:
        raise ModelError("The network that holds the nodes of its file is gone; read the file again with from_onnx.")
    return found


def find_kept(graph: fx.Graph) -> list[KeptGraph]:
    """The graphs that a graph of PyTorch holds."""
    return [kept_graph(str(node.args[1])) for node in graph.nodes if node.target is KEPT_GRAPH]


def _run(inputs: list[Tensor], key: str) -> list[Tensor]:
    return kept_graph(key).run(inputs)


def _infer(inputs: list[Tensor], key: str) -> list[Tensor]:
    return kept_graph(key).infer(inputs)


def _as_in_file(self: Tensor, other: Tensor) -> Tensor:
    return other.clone()


_library.impl("kept_graph", _run, "CPU")
_library.impl("kept_graph", _run, "CUDA")
_library.impl("as_in_file", _as_in_file, "CompositeExplicitAutograd")
torch.library.register_fake("explainable_model::kept_graph", _infer, lib=_library)

KEPT_GRAPH: OpOverload = torch.ops.explainable_model.kept_graph.default
"""``(inputs, key) -> values``: runs a graph in ONNX Runtime; it has no gradient."""

AS_IN_FILE: OpOverload = torch.ops.explainable_model.as_in_file.default
"""``(ours, theirs) -> theirs``, with the gradient of ``ours``."""


def as_in_file(ours: Tensor, theirs: Tensor) -> Tensor:
    """The values of ``theirs`` with the gradient of ``ours``.

    In eager mode the result is a copy, which autograd sees as one, with other values in it.
    """
    theirs = theirs.to(ours.dtype)
    if torch.compiler.is_exporting():
        found: Tensor = AS_IN_FILE(ours, theirs)
        return found
    found = ours.clone()
    found.detach().copy_(theirs)
    return found


class NodesOfFile(torch.autograd.Function):
    """The kept graph of inputs that carry gradients, which end here."""

    @staticmethod
    def forward(context: Any, key: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(KEPT_GRAPH(list(inputs), key))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        raise ModelError(
            "The method reads gradients before the layer, and the nodes of the file have none: read it with "
            "from_onnx(path, keep_graph=False), or choose a method that explains at a layer."
        )
