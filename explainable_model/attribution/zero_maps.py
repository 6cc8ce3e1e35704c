"""Say why a map is zero everywhere, and what to try."""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from explainable_model.attribution.explain import explain
from explainable_model.attribution.network import DifferentiableNetwork
from explainable_model.attribution.plan import Plan
from explainable_model.attribution.postprocess import Postprocess
from explainable_model.errors import ZeroMapWarning
from explainable_model.explanation import Explanation

SIGNED = Postprocess(normalize="none", upsample="none", signed=True)


def warn_of_zero_maps(
    network: DifferentiableNetwork,
    plan: Plan,
    image: Tensor,
    explanation: Explanation[Tensor],
    inputs: Sequence[Tensor],
) -> None:
    """Warn where a map in host memory is zero everywhere.

    Args:
        network: that was explained.
        plan: what was explained.
        image: ``(N, C, *spatial)``.
        explanation: of the images.
        inputs: the extra inputs.
    """
    if explanation.cam.device.type != "cpu":
        return
    maps = explanation.cam.flatten(1 if plan.top_k is None else 2)
    blank = ~maps.any(-1)
    if not bool(blank.any()):
        return
    class_idx = int(explanation.class_idx[blank][0])
    warnings.warn(
        f"The map of class {class_idx} is zero everywhere ({int(blank.sum())} of {blank.numel()} maps are). "
        f"{_reason(network, plan, image, explanation, inputs, blank)}",
        ZeroMapWarning,
        stacklevel=5,
    )


def _reason(
    network: DifferentiableNetwork,
    plan: Plan,
    image: Tensor,
    explanation: Explanation[Tensor],
    inputs: Sequence[Tensor],
    blank: Tensor,
) -> str:
    if plan.method.copies or plan.augment or len(plan.layers) > 1:
        return "Try signed=True, another layer, or method 'layercam' or 'eigencam'."
    *_, cam = explain(network, replace(plan, postprocess=SIGNED), image, explanation.class_idx, inputs)
    signed = cam[blank]
    if not bool(signed.any()):
        return (
            "The signed map is zero, too: the gradient of the score vanishes at the layer (a saturated output, dead "
            "activations, a class without weights), or its mean does (instance normalization or a softmax over all "
            "positions follows), or the activations do. Try another layer, method 'layercam' or 'hirescam', a target "
            "that is a logit instead of a probability, or method 'eigencam', which needs no gradient."
        )
    if bool((signed <= 0).all()):
        return (
            "The signed map is nowhere positive: all evidence at the layer speaks against the class, as it does for a "
            "class with negative weights alone. Try signed=True, which shows it, or another class."
        )
    return "The map is constant, and normalize='minmax' makes a constant zero. Try normalize='max', or another layer."
