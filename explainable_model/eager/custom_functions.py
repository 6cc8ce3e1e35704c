"""Name a ``torch.autograd.Function`` whose backward is not the derivative of its forward, such as straight-through."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.plan import Plan
from explainable_model.eager.buffers import frozen_parameters, restored_buffers
from explainable_model.eager.kept_tensors import without_graphs_left
from explainable_model.errors import LoweringError, ModelError

SAME_MAP = 0.02  # maps with one derivative differ by less, in units of the largest value


@contextmanager
def named_functions(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Where a graph has no gradient that the network has, say that a function of the user's may be the reason.

    Args:
        model: the network.
        plan: how it is called.
        image: ``(N, C, *spatial)``.
        inputs: its extra inputs, then the target's.

    Raises:
        ModelError: as what runs inside, with the names of the functions.
    """
    try:
        yield
    except ModelError as error:
        names = find_functions(model, plan, image, inputs)
        if not names:
            raise
        raise ModelError(f"{error} {_reason(names)}") from error


def check_derivative(
    model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor], cam: Tensor, lowered: Callable[..., Any]
) -> None:
    """Refuse a graph whose maps differ from the network's because of such a function.

    Args:
        model, plan, image, inputs: see ``named_functions``.
        cam: the network's maps.
        lowered: the graph, ``(image, class_idx, *inputs)`` -> an explanation.

    Raises:
        LoweringError: the names of the functions.
    """
    names = find_functions(model, plan, image, inputs)
    if not names:
        return
    difference = (lowered(image, None, *inputs).cam - cam).abs().max()
    if bool(difference > SAME_MAP * cam.abs().max()):
        raise LoweringError(f"The map of the lowered graph differs from the map of {plan.model}. {_reason(names)}")


def find_functions(model: nn.Module, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> list[str]:
    """The names of the functions that a network's output was computed with, sorted."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        restored_buffers(model),
        frozen_parameters(model),
        without_graphs_left(model),
    ):
        seen = image.detach().clone().requires_grad_().clone()  # no leaf: a network may write to its image
        output = call_network(model, plan.forward, seen, inputs[: len(inputs) - plan.target.inputs])
    return list_functions(floating_tensors(output))


def list_functions(tensors: Iterable[Tensor]) -> list[str]:
    """The names of the functions in the graphs of these tensors, without those of this library, sorted."""
    stack: list[Any] = [tensor.grad_fn for tensor in tensors]
    known: set[Any] = set()
    while stack:
        node = stack.pop()
        if node is not None and node not in known:
            known.add(node)
            stack += [parent for parent, _ in node.next_functions]
    functions = {type(node) for node in known if isinstance(node, torch.autograd.function.BackwardCFunction)}
    made_here = __name__.partition(".")[0]
    foreign = [each for each in functions if each._forward_cls.__module__.partition(".")[0] != made_here]  # type: ignore[attr-defined]
    return sorted({each.__name__.removesuffix("Backward") for each in foreign})


def _reason(names: list[str]) -> str:
    return (
        f"The network has torch.autograd.Function {', '.join(names)}: a graph takes the derivative of its forward, and "
        "its own backward is another one (as a straight-through estimator's is). Write it so that PyTorch derives that "
        "backward, for straight-through x + (f(x) - x).detach(), or explain the network eagerly."
    )
