"""Export the forward alone, with a mark at the target layer, as a functional graph."""

import contextlib
import io
import logging
import operator
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.inputs import predicted_class_idx
from explainable_model.attribution.plan import GRAPH_TAPS, IMAGE_LAYER, Plan
from explainable_model.attribution.targets import score_output
from explainable_model.eager.kept_tensors import graphs_put_aside
from explainable_model.eager.tap import LayerTap
from explainable_model.errors import ExplainableModelError, TraceError
from explainable_model.lowering.capture.functionalize import functionalize, is_composite
from explainable_model.lowering.capture.grad_mode import inline_grad_mode
from explainable_model.lowering.capture.leftovers import forget_leftovers, release_inputs
from explainable_model.lowering.capture.torchvision_ops import without_torchvision
from explainable_model.lowering.capture.trace_errors import untraceable
from explainable_model.lowering.dynamic_shapes import DynamicDims, open_shapes, share_batch
from explainable_model.lowering.graph import TAP

aten = torch.ops.aten


class _Scored(nn.Module):
    """The network with ``(logits, class_idx, values, columns)`` as its outputs, whatever container it returns."""

    def __init__(self, model: nn.Module, plan: Plan, autocast: Callable[[], Any]) -> None:
        super().__init__()
        self.model = model
        self._plan = plan
        self._autocast = autocast

    def forward(self, image: Tensor, class_idx: Tensor, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        share_batch(image, class_idx, *inputs)
        plan = self._plan
        count = len(inputs) - plan.target.inputs
        seen = TAP(image, IMAGE_LAYER) if IMAGE_LAYER in plan.tap_names else image
        with self._autocast():
            output = call_network(self.model, plan.forward, seen, inputs[:count])
        scores = score_output(plan.target, output, plan.output, class_idx, inputs[count:], image.shape)
        return scores.logits, scores.class_idx, scores.values, scores.columns


def capture(
    model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor], dims: DynamicDims
) -> ExportedProgram:
    """Export ``image, class_idx, *inputs -> logits, class_idx, values, columns`` with a ``tap`` on each tapped layer.

    Args:
        model: the network, in evaluation mode.
        plan: which layers are tapped, and what is explained.
        image: ``(N, C, *spatial)``; N is 2 or more where the batch size is to be open, for export reads 0
            and 1 as constants.
        inputs: examples of the extra inputs.
        dims: the dimensions to leave open.

    Returns:
        A functional program (no in-place operations) of whole operators (convolution, linear,
        layer norm and attention are kept).

    Raises:
        TraceError: the network cannot be traced; the reason is ``torch.export``'s.
    """
    class_idx = predicted_class_idx(image, plan.top_k)
    shapes = open_shapes(dims, image, len(inputs))
    scored = _Scored(model, plan, _autocast_as_now(image.device.type))
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_export())
        stack.enter_context(without_autocast(image.device.type))
        stack.enter_context(graphs_put_aside(model))
        for name in plan.named_taps:
            if name not in GRAPH_TAPS:
                stack.enter_context(LayerTap().listen(model.get_submodule(name), _Mark(name, plan.call)))
        try:
            program = export(scored, (image, class_idx, *inputs), shapes)
        except ExplainableModelError:
            raise
        except Exception as error:
            raise TraceError(untraceable(model, error)) from error
        program = without_torchvision(program)
        inline_grad_mode(program.graph_module, program.graph, TAP)
        if functionalize(program.graph):
            program.graph_module.recompile()
            return program
        functional: ExportedProgram = program.run_decompositions({})
        return functional


def export(module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[Any, ...]) -> ExportedProgram:
    """``torch.export`` without strict mode, which where it fails prints the whole graph so far to stderr."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    sys.stderr.write(written.getvalue())  # what the network itself has written
    release_inputs(program)
    return program


def _autocast_as_now(device: str) -> Callable[[], Any]:
    """The autocast that the caller runs under, to be entered inside the trace, which records its conversions."""
    if not torch.is_autocast_enabled(device):
        return contextlib.nullcontext
    return partial(torch.autocast, device, dtype=torch.get_autocast_dtype(device))


def without_autocast(device: str) -> Any:
    """A context in which every operator computes in the types that it is given."""
    enabled = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else contextlib.nullcontext()


class _Mark:
    """Marks the outputs of a layer with a ``tap``: those of all its calls, or of the call that is explained."""

    def __init__(self, name: str, call: int | None) -> None:
        self._name, self._call, self._calls = name, -1 if call is None else call, 0

    def __call__(self, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        self._calls += 1
        return TAP(output, self._name) if self._call in (-1, self._calls - 1) else output


def at_least_two(example: Tensor) -> Tensor:
    """A batch of exactly two: ``torch.export`` reads a batch of one as a constant."""
    return torch.cat([example, example])[:2].clone() if example.shape[0] < 2 else example[:2].clone()


def decompose(program: ExportedProgram, operators: set[OpOverload]) -> ExportedProgram:
    """Break just these operators up by PyTorch's own table of decompositions, or into what they are composed of."""
    table = torch.export.default_decompositions()
    chosen: dict[Any, Callable[..., Any]] = {op: table[op] for op in operators if op in table}
    chosen |= {op: op.decompose for op in operators if op not in table and is_composite(op)}
    if not chosen:
        return program
    with quiet_export():
        smaller: ExportedProgram = program.run_decompositions(chosen)
        return smaller


def graph_of(program: ExportedProgram) -> fx.GraphModule:
    """The program as a plain graph module: parameters as attributes, no guards, no assertions."""
    with quiet_export():
        module = program.module()
    assert isinstance(module, fx.GraphModule)
    graph = module.graph
    for node in reversed(list(graph.nodes)):
        is_guard = node.op == "call_module" and "guards" in str(node.target)
        is_assertion = node.op == "call_function" and "_assert" in str(node.target)
        # A network that writes to its buffers or its image ends with this; a lowered graph has no state.
        is_state = node.target is aten.copy_.default and node.args[0].op in ("placeholder", "get_attr")
        if not node.users and (is_guard or is_assertion or is_state):
            graph.erase_node(node)
    graph.set_codegen(fx.graph.CodeGen())  # inputs and outputs are plain tensors, not trees
    graph.eliminate_dead_code()
    _restore_batch_norm(graph)
    _simplify_assignments(graph)
    module.recompile()
    return module


def _restore_batch_norm(graph: fx.Graph) -> None:
    """``_native_batch_norm_legit_no_training(...)[0]`` -> ``batch_norm``, which every runtime knows."""
    for node in list(graph.nodes):
        if node.target is not aten._native_batch_norm_legit_no_training.default:
            continue
        image, weight, bias, mean, var, momentum, eps = node.args
        for user in list(node.users):
            if user.target is not operator.getitem or user.args[1] != 0:
                continue
            with graph.inserting_before(user):
                plain = graph.call_function(
                    aten.batch_norm.default, (image, weight, bias, mean, var, False, momentum, eps, False)
                )
            plain.meta.update(user.meta)
            user.replace_all_uses_with(plain)
            graph.erase_node(user)
        if not node.users:
            graph.erase_node(node)


def _simplify_assignments(graph: fx.Graph) -> None:
    """``y[...] = v`` leaves ``fill`` and ``copy`` behind, whose functional forms TorchScript cannot run."""
    for node in list(graph.nodes):
        if node.target is aten.fill.Scalar:
            node.target = aten.full_like.default
        elif node.target is aten.copy.default:
            target, source = node.args[:2]
            with graph.inserting_before(node):
                node.replace_all_uses_with(_like(graph, source, target))
            graph.erase_node(node)


def _like(graph: fx.Graph, source: fx.Node, target: fx.Node) -> fx.Node:
    """The source in dtype and shape of the target."""
    like, value = target.meta["val"], source.meta["val"]
    if value.dtype != like.dtype:
        source = graph.call_function(aten.to.dtype, (source, like.dtype))
        source.meta.update(target.meta, val=value.to(like.dtype))
    if value.shape != like.shape:
        source = graph.call_function(aten.expand_as.default, (source, target))
        source.meta.update(target.meta)
    return source


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence the warnings and logs of ``torch.export`` about its own implementation."""
    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.export._trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(torch|copyreg|copy)\b")
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # torch.export.load, to 2.12
        # What a network keeps between calls, such as its last attention, is no part of the graph.
        warnings.filterwarnings("ignore", message=r"The tensor attributes? .* assigned during export")
        try:
            with forget_leftovers():
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
