"""Resize, and sampling at places of a grid."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explainable_model.errors import ModelError
from explainable_model.networks.onnx.operators.call import Call, Operator
from explainable_model.networks.onnx.operators.shape import listed
from explainable_model.networks.onnx.values import Value, bounded, tensor

MODES = {"linear": ("linear", "bilinear", "trilinear"), "cubic": ("", "bicubic", "")}


def resize(call: Call, x: Value, *rest: Value) -> Value:
    """Nearest, linear and cubic, where torch computes the same.

    Raises:
        ModelError: another way to sample, or a change of batch or channels.
    """
    x = tensor(x)
    roi_scales_sizes = [None, *rest] if call.operator == "Upsample" or call.opset < 11 else list(rest)
    roi_scales_sizes += [None] * (3 - len(roi_scales_sizes))
    scales, sizes = listed_or_attribute(call, roi_scales_sizes[1]), listed(roi_scales_sizes[2])
    axes = [axis % x.ndim for axis in call.get("axes") or range(x.ndim)]
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ModelError("Resize that keeps the proportions is not read")
    goal = list(x.shape)
    factors: list[Any] = [1.0] * x.ndim
    for at, axis in enumerate(axes):
        if sizes:
            goal[axis] = sizes[at]
        elif scales:
            factors[axis] = scales[at]
            goal[axis] = _scaled(x.shape[axis], scales[at])
    outer = 1 if _is_same(goal[1], x.shape[1]) else None
    if outer is None or not (_is_same(goal[0], x.shape[0]) or call.batch is not None):
        raise ModelError(f"Resize changes the batch or the channels: {goal}; expected spatial dimensions alone")
    size = bounded(goal)[2:]
    if all(_is_same(a, b) for a, b in zip(size, x.shape[2:], strict=True)) and not scales:
        return x
    return _interpolate(call, x, size, None if sizes else factors[2:])


def listed_or_attribute(call: Call, scales: Value) -> list[float] | None:
    """The scales: an attribute before opset 9, an input later."""
    attribute = call.get("scales")
    found = listed(scales) if attribute is None else list(attribute)
    return found or None


def _is_same(a: Any, b: Any) -> bool:
    return a is b or (isinstance(a, int) and isinstance(b, int) and a == b) or str(a) == str(b)


def _scaled(length: Any, scale: float) -> Any:
    if isinstance(length, int):
        return math.floor(length * scale)
    return length * int(scale) if scale == int(scale) else torch.sym_int(math.floor(length * scale))


def _interpolate(call: Call, x: Tensor, size: list[Any], scales: list[float] | None) -> Value:
    mode = call.get("mode", "nearest")
    how = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    if call.opset < 11 or call.operator == "Upsample":
        how = "asymmetric"
    if call.get("exclude_outside"):
        raise ModelError("Resize with exclude_outside is not read")
    uneven = scales is not None and _is_uneven(x, size, scales)
    if uneven and (mode == "nearest" or how not in ("half_pixel", "pytorch_half_pixel")):
        raise ModelError(f"Resize with coordinates {how} by scales that do not give whole sizes is not read")
    if mode == "nearest":
        return _nearest(call, x, size, how)
    names = MODES.get(mode)
    if names is None or not names[x.ndim - 3]:
        raise ModelError(f"Resize with mode {mode} in {x.ndim - 2} dimensions is not read")
    if mode == "cubic" and not math.isclose(call.get("cubic_coeff_a", -0.75), -0.75):
        raise ModelError("Resize with cubic_coeff_a other than -0.75 is not read")
    if how == "pytorch_half_pixel":
        how = "half_pixel" if all(not isinstance(length, int) or length > 1 for length in size) else how
    if mode == "linear" and how == "asymmetric":
        return _linear_at(x, size)
    if how not in ("half_pixel", "align_corners"):
        raise ModelError(f"Resize with mode {mode} and coordinates {how} is not read")
    antialias, align = bool(call.get("antialias")), how == "align_corners"
    if uneven:
        return F.interpolate(
            x,
            scale_factor=scales[2 - x.ndim :] if scales else None,
            mode=names[x.ndim - 3],
            align_corners=False,
            antialias=antialias,
        )
    return F.interpolate(x, size, mode=names[x.ndim - 3], align_corners=align, antialias=antialias)


def _is_uneven(x: Tensor, size: list[Any], scales: list[float]) -> bool:
    return any(
        isinstance(length, int) and not math.isclose(length * scale, goal, rel_tol=1e-4)
        for length, goal, scale in zip(x.shape[2:], size, scales, strict=True)
    )


def _nearest(call: Call, x: Tensor, size: list[Any], how: str) -> Value:
    rounding = call.get("nearest_mode", "round_prefer_floor")
    if call.opset < 11 or call.operator == "Upsample":
        rounding = "floor"
    lengths = list(x.shape[2:])
    whole = all(isinstance(a, int) and isinstance(b, int) and a % b == 0 for a, b in zip(size, lengths, strict=True))
    if (how, rounding) == ("asymmetric", "floor") or (
        whole
        and how in ("half_pixel", "pytorch_half_pixel")
        and rounding in ("round_prefer_floor", "round_prefer_ceil")
    ):
        return F.interpolate(x, size, mode="nearest")
    for axis, (goal, length) in enumerate(zip(size, lengths, strict=True), 2):
        places = torch.arange(goal, device=x.device, dtype=torch.float64)
        x = x.index_select(axis, _round(_coordinates(places, how, length, goal), rounding).clamp(0, length - 1).long())
    return x


def _coordinates(places: Tensor, how: str, length: Any, goal: Any) -> Value:
    ratio = length / goal
    if how == "asymmetric":
        return places * ratio
    if how == "align_corners":
        return places * ((length - 1) / max(goal - 1, 1))
    if how in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        return (places + 0.5) * ratio - 0.5 if how == "half_pixel" or goal > 1 else places * 0
    raise ModelError(f"Resize with coordinates {how} is not read")


def _round(places: Tensor, rounding: str) -> Tensor:
    if rounding == "floor":
        return places.floor()
    if rounding == "ceil":
        return places.ceil()
    return (places - 0.5).ceil() if rounding == "round_prefer_floor" else (places + 0.5).floor()


def _linear_at(x: Tensor, size: list[Any]) -> Tensor:
    """Linear, with the first pixels of both pictures on each other."""
    for axis, (goal, length) in enumerate(zip(size, list(x.shape[2:]), strict=True), 2):
        places = (torch.arange(goal, device=x.device, dtype=torch.float32) * (length / goal)).clamp(0, length - 1)
        low = places.floor()
        share = (places - low).to(x.dtype).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
        high = (low + 1).clamp(0, length - 1)
        x = x.index_select(axis, low.long()) * (1 - share) + x.index_select(axis, high.long()) * share
    return x


def grid_sample(call: Call, x: Value, grid: Value) -> Value:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(call.get("mode", "bilinear"), call.get("mode", "bilinear"))
    align = bool(call.get("align_corners", 0))
    return F.grid_sample(x, tensor(grid, x), mode, call.get("padding_mode", "zeros"), align)


def affine_grid(call: Call, theta: Value, size: Value) -> Value:
    return F.affine_grid(theta, listed(size) or [], bool(call.get("align_corners", 0)))


TABLE: dict[str, Operator] = {
    "AffineGrid": Operator(affine_grid, numbers=(1,), passive=True),
    "GridSample": Operator(grid_sample),
    "Resize": Operator(resize, numbers=(1, 2, 3), shows="Upsample"),
    "Upsample": Operator(resize, numbers=(1, 2)),
}
