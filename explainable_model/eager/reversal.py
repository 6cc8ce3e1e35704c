"""Refuse a network whose gradient points against the change of its score, as behind a gradient reversal."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.eager.custom_functions import list_functions
from explainable_model.errors import ModelError

SMALLEST, LARGEST = 5e-4, 5e-2  # steps, in units of the length of the activations
ROUNDING = 8  # steps are so many times what the dtype resolves, at least
ALIKE = 3.0  # times as steep at the one of two small steps as at the other, at most, where the score is a curve
PLAIN = (str, int, float, bool, type(None))  # attributes of a module that its forward may read, such as a coefficient

ScoreAt = Callable[[int, Tensor], Tensor]  # (tap, change of its activations) -> the sum of the scores


class ReversalCheck:
    """Refuses gradients that point against the score, and remembers where it found none.

    What it remembers holds for the network with these modules and parameters. A copy of it (``deepcopy``, ``pickle``)
    remembers nothing.
    """

    def __init__(self) -> None:
        self._passed: tuple[list[Any], set[Hashable]] = [], set()

    def __reduce__(self) -> tuple[type["ReversalCheck"], tuple[()]]:
        return ReversalCheck, ()

    def refuse(
        self, model: nn.Module, key: Hashable, scores: Tensor, activations: Sequence[Tensor], score_at: ScoreAt
    ) -> None:
        """Look at a run, unless one like it has passed.

        Args:
            model: the network.
            key: of the run, such as its layers and the shape of its image.
            scores: ``(N,)``, with the graph.
            activations: of each tap.
            score_at: see ``refuse_reversed``.

        Raises:
            ModelError: with the names of the functions.
        """
        names = list_functions([scores])
        if not names:
            return
        state, known = list(_list_state(model)), (key, tuple(names))
        before, passed = self._passed
        if not _are_same(before, state):
            self._passed = state, (passed := set())
        if known not in passed:
            refuse_reversed(names, scores, activations, score_at, type(model).__name__)
            passed.add(known)


def refuse_reversed(
    names: Sequence[str], scores: Tensor, activations: Sequence[Tensor], score_at: ScoreAt, network: str
) -> None:
    """Refuse a gradient along which the score falls.

    The sign counts, and the length of the gradient does not. It is found where the sign of all channels is turned, or
    of one half of them, or of every other one. It is not found where another part of the channels is turned, or where
    a step function, such as a binary activation, stands between the layer and the score: there a score says nothing
    about its slope.

    Args:
        names: of the functions, for the message.
        scores: ``(N,)``, with the graph.
        activations: of each tap.
        score_at: the sum of the scores where the activations of a tap are changed by a tensor.
        network: its name.

    Raises:
        ModelError: with the names of the functions.
    """
    ones = torch.ones_like(scores)
    gradients = torch.autograd.grad([scores], list(activations), [ones], retain_graph=True, allow_unused=True)
    before = float(scores.detach().sum())
    for tap, (gradient, tensor) in enumerate(zip(gradients, activations, strict=True)):
        if gradient is not None and any(_falls(each, tap, tensor, before, score_at) for each in _directions(gradient)):
            raise ModelError(
                f"The gradient of {network} points against the change of its score: it has torch.autograd.Function "
                f"{', '.join(names)}, and a backward of its own that turns the sign, as gradient reversal does, draws "
                "what speaks against the class. Take it out of the network that is explained, explain a layer behind "
                "it, or use a method without gradients, such as scorecam."
            )


def _directions(gradient: Tensor) -> Iterator[Tensor]:
    """The gradient, and its parts at each half of dimension 1 and at every other place: one may have another sign."""
    yield gradient
    count = gradient.shape[1] if gradient.ndim > 1 else 1
    places = torch.arange(count, device=gradient.device).reshape(-1, *[1] * (gradient.ndim - 2))
    for part in (places % 2 == 1, places * 2 >= count) if count > 1 else ():
        yield gradient * part
        yield gradient * ~part


def _falls(direction: Tensor, tap: int, activations: Tensor, before: float, score_at: ScoreAt) -> bool:
    """Whether the score falls along a direction and rises against it at each step, and is a curve at the small ones.

    A step function does not change at small steps, or jumps by chance.
    """
    length, size = float(direction.norm()), float(activations.detach().norm())
    if length == 0 or size == 0:
        return False
    slopes = list[float]()
    for step in _steps(activations.dtype):
        for signed in (step, -step):
            slopes.append((float(score_at(tap, direction * (signed * size / length))) - before) / signed)
            if not slopes[-1] < 0:
                return False
    small = slopes[:4]  # two steps, in both directions
    return min(small) > ALIKE * max(small)


def _steps(dtype: torch.dtype) -> tuple[float, float, float]:
    """Three steps, the smallest first."""
    small = max(SMALLEST, ROUNDING * torch.finfo(dtype).eps)
    large = max(LARGEST, 4 * small)
    return small, (small * large) ** 0.5, large


def _list_state(model: nn.Module) -> Iterator[Any]:
    """What decides how the network is differentiated: its modules, their plain attributes and classes, its parameters.

    Buffers are no part of it, for some networks write to them at each call.
    """
    for module in model.modules():
        yield module
        for name, value in vars(module).items():
            if isinstance(value, (*PLAIN, type)):
                yield (name, value)
    for parameter in model.parameters():
        yield parameter
        yield (parameter._version,)


def _are_same(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether two states hold the same objects, and equal values beside them."""
    pairs = zip(before, after, strict=False)
    return len(before) == len(after) and all(a is b or (isinstance(a, tuple) and a == b) for a, b in pairs)
