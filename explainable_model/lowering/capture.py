"""Export the forward alone, with a mark at the target layer, as a functional graph."""

import contextlib
import io
import logging
import operator
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from explainable_model.errors import LayerError, LoweringError, TraceError
from explainable_model.explanation import IMAGE
from explainable_model.lowering.functional import make_functional
from explainable_model.lowering.reasons import untraceable
from explainable_model.lowering.shapes import OpenDims
from explainable_model.tap import LayerTap
from explainable_model.targets import find_logits

aten = torch.ops.aten

# The mark is an operator of its own: unlike the layer's name in a node's metadata it survives
# functionalisation, in-place operations after the layer, and layers that return their input.
_library: Any = torch.library.Library("explainable_model", "DEF")  # type: ignore[no-untyped-call]
_library.define("tap(Tensor activations) -> Tensor")
_library.impl("tap", torch.clone, "CompositeExplicitAutograd")
TAP: OpOverload = torch.ops.explainable_model.tap.default


class _LogitsOnly(nn.Module):
    """The network with the prediction as its only output, whatever container it comes in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return find_logits(self.model(image))


def capture(model: nn.Module, layer: str, image: Tensor, dims: OpenDims) -> ExportedProgram:
    """Export ``image -> logits`` with a ``tap`` operator on the layer's output.

    Args:
        model: the network, in evaluation mode.
        layer: name of the target layer.
        image: ``(N, C, *spatial)``; N is 2 or more where the batch size is to be open, for export reads 0
            and 1 as constants.
        dims: the dimensions to leave open.

    Returns:
        A functional program (no in-place operations) of whole operators (convolution, linear,
        layer norm and attention are kept).

    Raises:
        TraceError: the network cannot be traced; the reason is ``torch.export``'s.
    """
    shapes = {IMAGE: dims.of_image(image)}
    tap = LayerTap()
    with tap.listen(model.get_submodule(layer), lambda output, inputs: TAP(output)), quiet_export():
        try:
            program = export(_LogitsOnly(model), (image,), shapes)
        except (LayerError, LoweringError):
            raise
        except Exception as error:
            raise TraceError(untraceable(model, error)) from error
        if make_functional(program.graph):
            program.graph_module.recompile()
            return program
        functional: ExportedProgram = program.run_decompositions({})
        return functional


def export(module: nn.Module, inputs: tuple[Tensor, ...], shapes: Mapping[str, Any]) -> ExportedProgram:
    """``torch.export`` without strict mode, which where it fails prints the whole graph so far to stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        program = torch.export.export(module, inputs, dynamic_shapes=dict(shapes), strict=False)
    sys.stderr.write(said.getvalue())  # the network's own words
    return program


def decompose(program: ExportedProgram, operators: set[OpOverload]) -> ExportedProgram:
    """Break just these operators up by PyTorch's own table of decompositions."""
    table = torch.export.default_decompositions()
    chosen: dict[Any, Callable[..., Any]] = {op: table[op] for op in operators if op in table}
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
        if not node.users and (is_guard or is_assertion):
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
            target, source = (argument.meta["val"] for argument in node.args[:2])
            if target.dtype == source.dtype and target.shape == source.shape:
                node.replace_all_uses_with(node.args[1])
                graph.erase_node(node)


def layer_of(node: fx.Node) -> str:
    """Name of the layer that a node came from, or an empty string."""
    stack: Mapping[str, tuple[str, Any]] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    for prefix in ("L['self']", "model"):
        path = path.removeprefix(prefix).removeprefix(".")
    return path


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Silence what ``torch.export`` says about its own insides, in warnings and logs."""
    loggers = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.export._trace")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=r"(torch|copyreg|copy)\b")
        warnings.filterwarnings("ignore", message="The given buffer is not writable")  # torch.export.load, to 2.12
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
