"""From a network and a target layer to a forward-only graph: capture, differentiate, trace, simplify."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from explainable_model.artifact.metadata import Profile
from explainable_model.artifact.shapes import SizeRange
from explainable_model.attribution.boxes import BoxScore
from explainable_model.attribution.inputs import predicted_class_idx
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.targets import Custom
from explainable_model.eager.buffers import restored_buffers
from explainable_model.errors import ExplainableModelError, InputError, LoweringError, TraceError
from explainable_model.lowering.backward.graph_taps import tap_graph
from explainable_model.lowering.backward.networks import TracedNetwork, count_classes
from explainable_model.lowering.backward.second_order import SecondOrderNetwork
from explainable_model.lowering.backward.tail import Tail, find_tail
from explainable_model.lowering.capture.export import (
    at_least_two,
    capture,
    decompose,
    export,
    graph_of,
    quiet_export,
    without_autocast,
)
from explainable_model.lowering.capture.fake_quant import fixed_scales
from explainable_model.lowering.capture.trace_errors import reason_of
from explainable_model.lowering.dynamic_shapes import DynamicDims, open_shapes
from explainable_model.lowering.example_photos import fresh_photos, make_photos_like, photo_sizes
from explainable_model.lowering.graph import get_attribute, layer_of, output_nodes
from explainable_model.lowering.imaging import PhotoIO
from explainable_model.lowering.lowered import LoweredModel, Retraced, TracedExplanation
from explainable_model.lowering.output_ending import OutputEnding, find_ending
from explainable_model.lowering.output_kind import declared_kind
from explainable_model.lowering.passes.average_early import average_early
from explainable_model.lowering.passes.contiguous import copy_transposed_factors
from explainable_model.lowering.passes.devices import free_of_devices
from explainable_model.lowering.passes.fold import fold_batch_norm, fold_constants
from explainable_model.lowering.passes.narrow import narrow_early
from explainable_model.lowering.passes.portable import PortableGraph, check_portable, unshare_weights
from explainable_model.lowering.passes.simplify import simplify
from explainable_model.lowering.photo_model import PhotoModel, map_last
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.rules.missing import missing_lowering
from explainable_model.lowering.size_ranges import BATCHES, find_sizes
from explainable_model.networks.onnx.network import OnnxNetwork


def with_photo_io(lowered: LoweredModel, photo_io: PhotoIO) -> LoweredModel:
    """The lowered network with the preparation of photos before it, and its maps at the photo's size after it.

    Args:
        lowered: takes the image that ``photo_io`` makes.
        photo_io: prepares photos and draws on them.

    Raises:
        InputError: the lowered network leaves the size of its image open, which ``photo_io`` fixes.
    """
    if lowered.sizes is not None:
        raise InputError(
            "dynamic_size=True leaves the network's own input open, which preprocess makes of one size "
            f"({photo_io.preprocess.size}): leave it out; photos may be of any size."
        )
    batch = lowered.example.shape[0]
    size, inputs, given = photo_sizes(photo_io)[0], lowered.example_inputs, 0
    if isinstance(lowered.plan.target, BoxScore):
        photo = make_photos_like(lowered.example, photo_io, size).to(lowered.example.device)
        given = lowered.plan.target.inputs
        inputs = map_last(photo_io.boxes, inputs, given, photo)
    else:
        photo = fresh_photos(photo_io, batch, size, seed=0).to(lowered.example.device)
    arguments = (photo, predicted_class_idx(photo, lowered.plan.top_k), *inputs)
    dims = DynamicDims(lowered.dynamic_batch, True, photo_io.pixels)
    program = _trace(PhotoModel(Retraced(lowered.graph_module), photo_io, given), arguments, dims)
    return LoweredModel(
        _finished(program),
        lowered.plan,
        photo,
        inputs,
        classes=lowered.classes,
        dynamic_batch=lowered.dynamic_batch,
        sizes=(SizeRange(1), SizeRange(1)),
        photo_io=photo_io,
        ending=lowered.ending,
        notes=lowered.notes,
    )


def lower_network(
    model: nn.Module,
    plan: Plan,
    example: tuple[Tensor, ...],
    table: Mapping[OpOverload, Lowering],
    profile: Profile,
    dims: DynamicDims,
    *,
    dynamic_batch: bool = True,
) -> LoweredModel:
    """The network and its explanation as one forward-only graph.

    Args:
        model: the network.
        plan: what is explained and how.
        example: the image and the extra inputs.
        table: the vector-Jacobian product of each operator.
        profile: which operators the graph may have.
        dims: the dimensions that are left open in the trace.
        dynamic_batch: leave the batch size open in the result too.

    Raises:
        TraceError: the network, or its gradient, cannot be traced with these dimensions open.
        LoweringError: an operator of the tail has no lowering, or the graph leaves the profile.
    """
    traced_with = tuple(at_least_two(tensor) if dims.batch else tensor.clone() for tensor in example)
    with restored_buffers(model), fixed_scales(model):
        captured = capture(model, plan, traced_with[0], traced_with[1:], dims)
    network = _differentiable_network(captured, plan, table, _arguments(plan, traced_with), dims)
    if dims.batch and not dynamic_batch:  # a graph with an open batch size can run several copies of its tail
        dims, traced_with = replace(dims, batch=False), example
    arguments = _arguments(plan, traced_with)
    program = _trace(TracedExplanation(network, network.module, plan), arguments, dims)
    graph = _finished(program)
    batches = BATCHES if dims.batch else traced_with[0].shape[:1]
    return LoweredModel(
        _portable(graph, arguments, network.classes) if profile == "portable" else graph,
        plan,
        traced_with[0],
        traced_with[1:],
        classes=network.classes,
        dynamic_batch=dims.batch,
        sizes=find_sizes([captured, program], arguments, batches) if dims.size else None,
        profile=profile,
        ending=_ending_of(captured, model, plan),
        notes=model.notes if isinstance(model, OnnxNetwork) else None,
        input_names=model.kept_names if isinstance(model, OnnxNetwork) else None,
    )


def _ending_of(captured: ExportedProgram, model: nn.Module, plan: Plan) -> OutputEnding | None:
    logits, _, values, _ = output_nodes(graph_of(captured).graph)
    is_score = isinstance(plan.target, Custom) and logits is values  # the output holds no class scores
    return None if is_score else replace(find_ending(logits), declared=declared_kind(model, plan.target, plan.output))


def _differentiable_network(
    captured: ExportedProgram,
    plan: Plan,
    table: Mapping[OpOverload, Lowering],
    arguments: tuple[Tensor, ...],
    dims: DynamicDims,
) -> TracedNetwork | SecondOrderNetwork:
    module, tail = _differentiable_graph(captured, plan, table)
    network = TracedNetwork(module, tail, plan, table, count_classes(module, plan))
    if not plan.method.needs_curvature:
        return network
    return SecondOrderNetwork(network, plan, table, lambda first: graph_of(_trace(first, arguments, dims)))


def _arguments(plan: Plan, example: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs of a lowered graph, which ask for the predicted class."""
    image, *inputs = example
    return image, predicted_class_idx(image, plan.top_k), *inputs


def _portable(module: fx.GraphModule, arguments: tuple[Tensor, ...], classes: int) -> fx.GraphModule:
    """The graph in the operators of the portable profile."""
    portable = _finished(_trace(PortableGraph(module, classes), arguments, DynamicDims(batch=False)))
    unshare_weights(portable)
    check_portable(portable)
    return portable


def _differentiable_graph(
    program: ExportedProgram, plan: Plan, table: Mapping[OpOverload, Lowering]
) -> tuple[fx.GraphModule, Tail]:
    """The forward graph and its tail; an operator of the tail without a lowering is decomposed until it has one.

    Raises:
        LoweringError: an operator without a lowering that cannot be decomposed.
    """
    while True:
        graph = _tapped(program, plan)
        missing = find_tail(graph.graph, plan).missing(table)
        if not missing:
            break
        smaller = decompose(program, set(missing))
        if smaller is program or find_tail(_tapped(smaller, plan).graph, plan).missing(table).keys() >= missing.keys():
            raise missing_lowering(missing)
        program = smaller
    fold_batch_norm(graph)
    narrow_early(graph.graph)
    graph.recompile()
    return graph, find_tail(graph.graph, plan)


def _tapped(program: ExportedProgram, plan: Plan) -> fx.GraphModule:
    graph = graph_of(program)
    tap_graph(graph.graph, plan)
    return graph


def _trace(module: nn.Module, arguments: tuple[Tensor, ...], dims: DynamicDims) -> ExportedProgram:
    shapes = open_shapes(dims, arguments[0], len(arguments) - 2)
    with quiet_export(), without_autocast(arguments[0].device.type):
        try:
            return export(module, arguments, shapes)
        except ExplainableModelError:
            raise
        except Exception as error:  # torch.export raises whatever its parts raise
            raise TraceError(f"The lowered graph cannot be traced. The reason: {reason_of(error)}") from error


def _finished(program: ExportedProgram) -> fx.GraphModule:
    """The simplified graph: constants are computed, no device is named, nodes are named after the network's layers."""
    module = graph_of(program)
    simplify(module.graph)
    copy_transposed_factors(module.graph)
    free_of_devices(module)
    fold_constants(module)
    average_early(module)
    _name_nodes(module)
    backward = sorted({str(n.target) for n in module.graph.nodes if "backward" in str(n.target)})
    if backward:
        raise LoweringError(f"The lowered graph still has {', '.join(backward)}: a lowering used autograd.")
    return _flattened(module)


def _flattened(module: fx.GraphModule) -> fx.GraphModule:
    """The graph with its tensors as buffers of one module, for TorchScript knows no dotted attributes."""
    root = nn.Module()
    names: dict[str, str] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            target = str(node.target)
            if target not in names:
                value = get_attribute(module, node)
                assert value is not None
                flat = re.sub(r"\W", "_", target.removeprefix("network.").removeprefix("model."))
                names[target] = flat if flat not in names.values() else f"{flat}_{len(names)}"
                root.register_buffer(names[target], value.detach())
            node.target = names[target]
    return fx.GraphModule(root, module.graph).eval()


def _name_nodes(module: fx.GraphModule) -> None:
    """Name each node after the layer it came from, so that a profile says which layer costs what."""
    for node in module.graph.nodes:
        if isinstance(node.target, OpOverload):  # not the arithmetic on sizes
            layer, operation = layer_of(node), str(node.target).split(".")[1]
            if layer:
                node._rename(re.sub(r"\W", "_", f"{layer}_{operation}"))
    module.recompile()
