"""Lowering with as many open dimensions as the network allows."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from explainable_model.artifact.metadata import PROFILES, Profile
from explainable_model.attribution.context import MethodContext, has_rounded_means
from explainable_model.attribution.inputs import predicted_class_idx
from explainable_model.attribution.plan import Plan
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.hooked import HookedNetwork
from explainable_model.eager.tap import LayerTap
from explainable_model.errors import InputError, RepeatedLayerWarning, StaticBatchWarning, TraceError
from explainable_model.lowering.capture.trace_errors import reason_of
from explainable_model.lowering.dynamic_shapes import DynamicDims
from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.pipeline import lower_network
from explainable_model.lowering.rules.call import Lowering
from explainable_model.lowering.size_ranges import open_size_error

Attempt: TypeAlias = Callable[[DynamicDims], LoweredModel]


def check_profile(profile: str, image: Tensor, *, dynamic_size: bool) -> None:
    """Refuse a profile that does not exist, or one that the request does not fit.

    Raises:
        InputError: what is wrong with the request.
    """
    if profile not in PROFILES:
        raise InputError(f"Unknown profile {profile!r}; known profiles: {', '.join(PROFILES)}.")
    if profile == "portable" and (dynamic_size or image.dtype is not torch.float32):
        got = "an open height and width" if dynamic_size else f"a network in {image.dtype}"
        raise InputError(
            f"The portable profile is for float32 and images of one size; got {got}. Leave dynamic_size=False, give "
            "network.float() and a float32 image, or leave out the profile."
        )


def lower_with_open_dims(
    model: nn.Module,
    plan: Plan,
    example: tuple[Tensor, ...],
    table: Mapping[OpOverload, Lowering],
    profile: Profile,
    *,
    dynamic_size: bool,
    dynamic_batch: bool,
) -> LoweredModel:
    """Lower with the open dimensions that are asked for; the batch falls back to the example's, with a warning.

    Args:
        model: the network.
        plan: what is explained, with its layers.
        example: the image and the other inputs.
        table: the vector-Jacobian product of each operator.
        profile: ``full`` or ``portable``.
        dynamic_size: whether height and width stay open.
        dynamic_batch: whether the batch size stays open.

    Raises:
        LoweringError: the network cannot be lowered, or not with an open size.
    """
    if not plan.zero_means and _shows_zero_means(model, plan, *example):
        plan = replace(plan, zero_means=True)
    attempt = partial(lower_network, model, plan, example, table, profile)
    try:
        return attempt(DynamicDims(size=dynamic_size), dynamic_batch=dynamic_batch)
    except TraceError as refusal:
        # Where something else than an open dimension is wrong with the network, these attempts raise it.
        if dynamic_size:
            _refuse_open_size(attempt, refusal)
        lowered = attempt(DynamicDims(batch=False, size=dynamic_size))
        if dynamic_batch:
            warnings.warn(
                f"{plan.model} refuses an open batch size, so it was lowered for a batch of exactly "
                f"{example[0].shape[0]}, the example's. The reason: {reason_of(refusal.__cause__ or refusal)}",
                StaticBatchWarning,
                stacklevel=3,
            )
        return lowered


def _shows_zero_means(model: nn.Module, plan: Plan, image: Tensor, *inputs: Tensor) -> bool:
    """Whether gradients at the layer have mean zero by construction, which the example shows."""
    if not getattr(plan.method.explain, "averages_gradients", False) or len(plan.layers) != 1:
        return False
    network = HookedNetwork(model, plan, [LayerTap() for _ in plan.named_taps])
    try:
        with torch.inference_mode(False), torch.no_grad(), restored_buffers(model), warnings.catch_warnings():
            warnings.simplefilter("ignore", RepeatedLayerWarning)  # the call before has warned
            run = network.run(image.clone(), predicted_class_idx(image, plan.top_k), inputs)
            return has_rounded_means(MethodContext(network, plan, run).gradients())
    except RuntimeError:  # autograd refuses operations in place; the graph's maps are compared with the network's
        return False


def _refuse_open_size(attempt: Attempt, refusal: TraceError) -> None:
    """Raise, unless the open batch alone was refused."""
    try:
        attempt(DynamicDims())
    except TraceError:
        try:
            attempt(DynamicDims(batch=False, size=True))
            return
        except TraceError:
            attempt(DynamicDims(batch=False))
    raise open_size_error(reason_of(refusal.__cause__ or refusal)) from refusal
