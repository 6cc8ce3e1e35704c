"""Lowering with as many open dimensions as the network allows."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch._ops import OpOverload

from explainable_model.artifact.metadata import PROFILES, Profile
from explainable_model.attribution.plan import Plan
from explainable_model.errors import InputError, StaticBatchWarning, TraceError
from explainable_model.lowering.capture.leftovers import forget_leftovers
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


@forget_leftovers()
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
