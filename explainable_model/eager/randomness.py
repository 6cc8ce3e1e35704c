"""Refuse a network that draws random numbers, since its answer is another one at each call."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.calling import call_network
from explainable_model.attribution.containers import floating_tensors
from explainable_model.attribution.plan import Plan
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.observers import refuse_observers
from explainable_model.errors import ModelError

SAME_ANSWER = 1e-4  # in units of the largest value: two calls of a network differ by less where kernels alone differ
CALLS = 8  # dropout of few values often drops the same ones twice


class Randomness:
    """Whether a network's answer depends on random numbers; networks that draw some and do not use them are right.

    Args:
        model: the network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._is_steady = False

    def __reduce__(self) -> tuple[type["Randomness"], tuple[nn.Module]]:
        return Randomness, (self._model,)

    @contextmanager
    def refused(self, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> Iterator[None]:
        """Watch the generators while the network runs; the first time that it draws from one, compare its answers.

        Args:
            plan: how the network is called.
            image: ``(N, C, *spatial)``.
            inputs: the network's extra inputs, then the target's.

        Raises:
            ModelError: the network is random, or a fake quantizer in it still observes.
        """
        if self._is_steady:
            yield
            return
        before = _generator_states(image.device)
        yield
        if before != _generator_states(image.device):
            self.refuse(plan, image, inputs, CALLS)
            self._is_steady = True

    def refuse(self, plan: Plan, image: Tensor, inputs: Sequence[Tensor], calls: int = 2) -> None:
        """Run the network several times on an image and compare what it returns.

        Arguments and errors as ``refused``.
        """
        network_inputs = inputs[: len(inputs) - plan.target.inputs]
        with torch.no_grad():
            first = self._run(plan, image, network_inputs)
            for _ in range(calls - 1):
                other = self._run(plan, image, network_inputs)
                if len(first) != len(other) or any(map(_differ, first, other)):
                    refuse_observers(self._model)
                    raise ModelError(_message(type(self._model).__name__))

    def _run(self, plan: Plan, image: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
        with restored_buffers(self._model):  # a network that counts its calls is not random
            output = call_network(self._model, plan.forward, image.clone(), inputs)
            return [tensor.clone() for tensor in floating_tensors(output)]


def _message(name: str) -> str:
    return (
        f"{name} is random: several calls with the same image return different values, so there is no one answer to "
        "explain. Look in its forward for dropout with training=True (write training=self.training), noise, or random "
        "masks and crops, and switch them off for evaluation."
    )


def _generator_states(device: torch.device) -> tuple[Any, ...]:
    """The states of PyTorch's and Python's generators; NumPy's takes longer to read than a small network to run."""
    on_device = device.type == "cuda"
    generator = torch.cuda.default_generators[device.index or 0] if on_device else torch.default_generator
    return generator.get_state().numpy().tobytes(), random.getstate()


def _differ(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return True
    if not one.numel():
        return False
    difference, scale = (one.double() - other.double()).abs().max(), one.double().abs().max()
    return bool(difference > SAME_ANSWER * scale)
