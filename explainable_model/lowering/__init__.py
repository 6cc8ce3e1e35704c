"""Lowering: from a network and a layer to a forward-only graph that predicts and explains."""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram

from explainable_model.errors import ExplainableModelError, InputError, LoweringError, StaticBatchWarning, TraceError
from explainable_model.explanation import ATTENTION_LAYERS
from explainable_model.frame import Frame, FramedModel, fresh_photos, photo_sizes
from explainable_model.lowering.attention import tap_attention
from explainable_model.lowering.call import Call, Gradients, Lowering
from explainable_model.lowering.capture import (
    at_least_two,
    capture,
    decompose,
    export,
    graph_of,
    layer_of,
    quiet_export,
    without_autocast,
)
from explainable_model.lowering.captured import TracedNetwork, count_classes
from explainable_model.lowering.devices import free_of_devices
from explainable_model.lowering.differentiate import Tail, find_tail, missing_lowering
from explainable_model.lowering.fake_quant import fixed_scales
from explainable_model.lowering.fold import fold_batch_norm, fold_constants, get_attribute
from explainable_model.lowering.layout import copy_transposed_factors
from explainable_model.lowering.lowered import LoweredModel, Retraced, TracedExplanation
from explainable_model.lowering.narrow import narrow_early
from explainable_model.lowering.portable import PortableGraph, check_portable, unshare_weights
from explainable_model.lowering.reasons import reason_of
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.lowering.second_order import SecondOrderNetwork
from explainable_model.lowering.shapes import OpenDims, open_shapes
from explainable_model.lowering.simplify import simplify
from explainable_model.lowering.sizes import BATCHES, find_sizes, open_size_error
from explainable_model.metadata import PROFILES, Profile, SizeRange
from explainable_model.model import ExplainableModel
from explainable_model.plan import Plan
from explainable_model.scoring import predicted_class_idx
from explainable_model.state import kept_state

__all__ = ["LOWERINGS", "Call", "Gradients", "LoweredModel", "Lowering", "lower"]


def lower(
    explainable: ExplainableModel,
    image: Tensor,
    *inputs: Tensor,
    lowerings: Mapping[OpOverload, Lowering] | None = None,
    dynamic_size: bool = False,
    dynamic_batch: bool = True,
    profile: Profile = "full",
) -> LoweredModel:
    """Differentiate the tail of the network ahead of time.

    The forward is exported once, cut at the target layer, and walked backwards from the score with
    one vector-Jacobian product per operator, each written in forward operations; batch norm is
    folded into the convolution before it. What comes out is a plain forward graph with an open
    batch size; for a network that takes one batch size only, or a different path for each, it is the
    example's, with a ``StaticBatchWarning``. The graph has no state: buffers that the network updates
    in its forward keep the values that they have now, and the network's own are left as found.

    Args:
        explainable: the network and what to explain of it.
        image: ``(N, C, *spatial)``, an example; its spatial size becomes the graph's.
        inputs: examples of what else the network and the target take.
        lowerings: rows that are added to, or replace, those of ``LOWERINGS``.
        dynamic_size: leave height and width open as well; ``LoweredModel.sizes`` says which are taken.
            Convolutional networks allow it, those with a table of positions do not; windowed transformers
            take minutes to trace.
        dynamic_batch: leave the batch size open; ``False`` makes a graph for exactly as many images as ``image`` has.
        profile: ``portable`` keeps to the operators that strict runtimes have (``lowering/portable.py`` lists them),
            in float32 and for the example's shape alone; ``full`` uses all that is fast.

    Raises:
        LoweringError: the network cannot be traced, or an operator on the way from the layer to the
            score has no lowering; the error names it and the layer. Or it takes one image size only.
        InputError, LayerError, ModelError: as the eager call.
    """
    _check_profile(profile, image, dynamic_size)
    with torch.no_grad(), kept_state(explainable.model):
        explainable(image.clone(), None, *inputs)  # whatever is wrong with the request is said by the eager call
    plan = explainable.plan
    table = {**LOWERINGS, **(lowerings or {})}
    dynamic_batch = dynamic_batch and profile == "full"
    example = tuple(each.detach() for each in (image, *inputs))
    attempt = partial(_lower, explainable.model, plan, example, table, profile)
    try:
        return attempt(OpenDims(size=dynamic_size), dynamic_batch=dynamic_batch)
    except TraceError as refusal:
        # What else is wrong with the network is said by these attempts: they succeed where the open dimensions were.
        if dynamic_size:
            _refuse_open_size(attempt, refusal)
        lowered = attempt(OpenDims(batch=False, size=dynamic_size))
        if dynamic_batch:
            warnings.warn(
                f"{plan.model} refuses an open batch size, so it was lowered for a batch of exactly {image.shape[0]}, "
                f"the example's. The reason: {reason_of(refusal.__cause__ or refusal)}",
                StaticBatchWarning,
                stacklevel=2,
            )
        return lowered


def framed(lowered: LoweredModel, frame: Frame) -> LoweredModel:
    """The same graph between the preparation of photos of any size and the drawing on them.

    Args:
        lowered: for the image that the frame makes.
        frame: what surrounds it.

    Raises:
        InputError: the lowered model leaves the size of its image open, which the frame has fixed.
    """
    if lowered.sizes is not None:
        raise InputError(
            "dynamic_size=True leaves the network's own input open, which preprocess makes of one size "
            f"({frame.preprocess.size}): leave it out; photos may be of any size."
        )
    batch = lowered.example.shape[0]
    photo = fresh_photos(frame, batch, photo_sizes(frame)[0], seed=0).to(lowered.example.device)
    arguments = (photo, predicted_class_idx(photo, lowered.plan.top_k), *lowered.example_inputs)
    dims = OpenDims(lowered.dynamic_batch, True, frame.pixels)
    program = _trace(FramedModel(Retraced(lowered.graph_module), frame), arguments, dims)
    return LoweredModel(
        _finished(program),
        lowered.plan,
        photo,
        lowered.example_inputs,
        classes=lowered.classes,
        dynamic_batch=lowered.dynamic_batch,
        sizes=(SizeRange(1), SizeRange(1)),
        frame=frame,
    )


def _check_profile(profile: str, image: Tensor, dynamic_size: bool) -> None:
    if profile not in PROFILES:
        raise InputError(f"Unknown profile {profile!r}; known profiles: {', '.join(PROFILES)}.")
    if profile == "portable" and (dynamic_size or image.dtype is not torch.float32):
        got = "an open height and width" if dynamic_size else f"a network in {image.dtype}"
        raise InputError(
            f"The portable profile is for float32 and images of one size; got {got}. Leave dynamic_size=False, give "
            "network.float() and a float32 image, or leave out the profile."
        )


def _refuse_open_size(attempt: Callable[[OpenDims], LoweredModel], refusal: TraceError) -> None:
    """Raise, unless it is the open batch that was refused."""
    try:
        attempt(OpenDims())
    except TraceError:
        try:
            attempt(OpenDims(batch=False, size=True))
            return
        except TraceError:
            attempt(OpenDims(batch=False))
    raise open_size_error(reason_of(refusal.__cause__ or refusal)) from refusal


def _lower(
    model: nn.Module,
    plan: Plan,
    given: tuple[Tensor, ...],
    table: Mapping[OpOverload, Lowering],
    profile: Profile,
    dims: OpenDims,
    *,
    dynamic_batch: bool = True,
) -> LoweredModel:
    image, *inputs = (at_least_two(each) if dims.batch else each.clone() for each in given)
    arguments = (image, predicted_class_idx(image, plan.top_k), *inputs)
    with kept_state(model), fixed_scales(model):
        captured = capture(model, plan, image, inputs, dims)
    graph, tail = _differentiable_graph(captured, plan, table)
    classes = count_classes(graph, plan)
    traced = TracedNetwork(graph, tail, plan, table, classes)
    network: TracedNetwork | SecondOrderNetwork = traced
    if plan.row.needs_curvature:
        network = SecondOrderNetwork(
            traced, graph, plan, table, classes, lambda module: graph_of(_trace(module, arguments, dims))
        )
        graph = network.module
    if dims.batch and not dynamic_batch:  # an open graph knows what its batch is, and can run copies of its tail
        dims = replace(dims, batch=False)
        image, *inputs = given
        arguments = (image, predicted_class_idx(image, plan.top_k), *inputs)
    program = _trace(TracedExplanation(network, graph, plan), arguments, dims)
    batches = BATCHES if dims.batch else image.shape[:1]
    module = _finished(program)
    if profile == "portable":
        module = _portable(module, arguments, classes)
    return LoweredModel(
        module,
        plan,
        image,
        tuple(inputs),
        classes=classes,
        dynamic_batch=dims.batch,
        sizes=find_sizes([captured, program], arguments, batches) if dims.size else None,
        profile=profile,
    )


def _portable(module: fx.GraphModule, arguments: tuple[Tensor, ...], classes: int) -> fx.GraphModule:
    """The graph in the operators of the portable profile."""
    portable = _finished(_trace(PortableGraph(module, classes), arguments, OpenDims(batch=False)))
    unshare_weights(portable)
    check_portable(portable)
    return portable


def _differentiable_graph(
    program: ExportedProgram, plan: Plan, table: Mapping[OpOverload, Lowering]
) -> tuple[fx.GraphModule, Tail]:
    """Forward graph and tail, with every operator of the tail one that has a lowering."""
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
    if ATTENTION_LAYERS in plan.tap_names:
        tap_attention(graph.graph)
    return graph


def _trace(module: nn.Module, arguments: tuple[Tensor, ...], dims: OpenDims) -> ExportedProgram:
    shapes = open_shapes(dims, arguments[0], len(arguments) - 2)
    with quiet_export(), without_autocast(arguments[0].device.type):
        try:
            return export(module, arguments, shapes)
        except ExplainableModelError:
            raise
        except Exception as error:  # torch.export raises whatever its parts raise
            raise TraceError(f"The lowered graph cannot be traced. The reason: {reason_of(error)}") from error


def _finished(program: ExportedProgram) -> fx.GraphModule:
    """The graph with constants computed, and named after the network's layers."""
    module = graph_of(program)
    simplify(module.graph)
    copy_transposed_factors(module.graph)
    free_of_devices(module)
    fold_constants(module)
    _name_nodes(module)
    backward = sorted({str(n.target) for n in module.graph.nodes if "backward" in str(n.target)})
    if backward:
        raise LoweringError(f"The lowered graph still has {', '.join(backward)}: a lowering used autograd.")
    return _flattened(module)


def _flattened(module: fx.GraphModule) -> fx.GraphModule:
    """The graph over buffers with flat names after their layers: TorchScript knows no dotted attributes."""
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
