"""How far integrated gradients are from adding up."""

from typing import TYPE_CHECKING, Any

from explainable_model.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.model import ExplainableModel

METHOD = "integrated_gradients"


def convergence_gap(explainable: "ExplainableModel", image: "Tensor", class_idx: Any = None) -> "Tensor":
    """Sum of integrated gradients, minus the difference of the score between the image and the baseline.

    ``gap = sum_i a_i - (f(x) - f(x'))`` with ``a_i = (x_i - x'_i) (1 / n) sum_m g_mi``. With infinitely many steps it
    is zero. Raise ``steps`` where it is more than a few percent of ``f(x) - f(x')``.

    Args:
        explainable: with ``method="integrated_gradients"``; its ``steps`` and its ``baseline`` count.
        image: ``(N, C, *size)``, the network's dtype.
        class_idx: as of a call, one class for each image.

    Returns:
        ``(N,)``: the gap in units of the score.

    Raises:
        InputError: another method, several classes (``top_k``), or a target that is not the score of a class.

    Source: completeness, Sundararajan et al. 2017, arXiv 1703.01365, proposition 1; captum calls it convergence delta.
    """
    import torch

    from explainable_model.attribution.scores import class_scores
    from explainable_model.attribution.targets import ClassScore
    from explainable_model.methods.image_adapters import find_baselines
    from explainable_model.methods.input_gradient import integration_path

    plan = explainable.plan
    if plan.method.name != METHOD or not isinstance(plan.target, ClassScore):
        raise InputError(
            f"convergence_gap is of method={METHOD!r} and the score of a class; got {plan.method.name!r} and the "
            f"target {type(plan.target).__name__}."
        )
    if plan.top_k is not None:
        raise InputError(f"convergence_gap is of one class for each image; got top_k={plan.top_k}. Leave out top_k=.")
    options = {**plan.method.options, **plan.options}
    start = find_baselines(image, options["baseline"])[:1]
    logits, classes, *_ = explainable.attribute(image, class_idx)
    path = integration_path(image, start, options["steps"])  # (N, steps, C, *size)
    total = torch.zeros_like(image)
    for step in path.unbind(1):
        total = total + explainable.attribute(step, classes).gradients
    sums = ((image - start) * total / options["steps"]).flatten(1).sum(1)
    of_baseline = explainable.attribute(start.expand_as(image), classes).logits
    differences = class_scores(logits - of_baseline, len(image)).gather(1, classes[:, None])[:, 0]
    gap: Tensor = sums - differences
    return gap
