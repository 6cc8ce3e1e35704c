"""The protocols of a network: it runs, gives gradients and, for some methods, second derivatives or its tail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from explainable_model.attribution.targets import Scores


@dataclass(frozen=True)
class ForwardRun:
    """One run of a network on a batch.

    Attributes:
        image: ``(N, C, *spatial)``.
        inputs: the extra inputs.
        scores: of the classes, from its output.
        activations: output of each tap, as the layer returned it: the image where it is one, the layers
            the method listens to, and last those that are explained.
        state: what the network keeps to differentiate the run.
    """

    image: Tensor
    inputs: tuple[Tensor, ...]
    scores: Scores
    activations: tuple[Tensor, ...]
    state: Any = None


class DifferentiableNetwork(Protocol):
    """A network that listens to some of its layers (the taps) and differentiates the scores there."""

    def run(self, image: Tensor, class_idx: Tensor, inputs: Sequence[Tensor]) -> ForwardRun:
        """Predict.

        Args:
            image: ``(N, C, *spatial)``.
            class_idx: ``(N,)`` int64, or ``(N, top_k)``; ``-1`` in column j for the class predicted j-th.
            inputs: extra inputs, of the network and then of the target, each with the batch first.
        """

    def gradients(self, run: ForwardRun, weights: Tensor | None = None) -> list[Tensor]:
        """Gradient of each explained score with respect to each tap.

        Args:
            run: from ``run``, of this network.
            weights: ``(N, k, S)``, the weight of every score in what is differentiated; by default one
                for the explained class and zero for the others.

        Returns:
            ``(N, k, *shape)`` for a tap of shape ``(N, *shape)``.
        """


class CurvedNetwork(DifferentiableNetwork, Protocol):
    """A network with second derivatives, for methods with ``needs_curvature``."""

    def curvature(self, run: ForwardRun, tap: int) -> Tensor:
        """Hessian of each explained score times the activations of a tap, ``(N, k, *shape)``."""


class ReplayableNetwork(DifferentiableNetwork, Protocol):
    """A network whose graph is known, for methods with ``needs_graph``."""

    def tail(self, run: ForwardRun, tap: int, activations: Tensor, copies: int) -> Tensor:
        """Scores for other activations of a tap; the layers before it do not run again.

        Args:
            run: from ``run``, of this network.
            tap: position in ``run.activations``.
            activations: ``(N * copies, ...)``, each image's copies one after the other.
            copies: how many there are of each image.

        Returns:
            ``(N * copies, S)``.
        """

    def guided(self, run: ForwardRun) -> tuple[DifferentiableNetwork, ForwardRun]:
        """The network whose gradients pass a ReLU only where they are positive, and the same run of it."""
