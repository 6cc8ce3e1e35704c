"""Which layers see the image: another input may have an encoder of its own."""

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

import torch
from torch import Tensor

from explainable_model.eager.example import Example
from explainable_model.eager.kept_tensors import without_graphs_left
from explainable_model.eager.tap import LayerTap
from explainable_model.errors import ModelError

SAME_OUTPUT = 1e-4  # in units of the largest value: two calls of a layer differ by less where kernels alone differ


def find_blind_layers(example: Example, outputs: Mapping[str, Tensor]) -> set[str]:
    """The layers whose last output is the same for another image, beside the same other inputs.

    A network without other inputs does not run again.

    Args:
        example: how the network is called.
        outputs: of the layers, at their last call, for the example's image.
    """
    if len(example.arguments) - example.target.inputs < 2:
        return set()
    same = dict[str, bool]()
    with ExitStack() as stack, suppress(RuntimeError, ValueError, IndexError, ModelError):  # it may not take this image
        stack.enter_context(torch.no_grad())
        stack.enter_context(without_graphs_left(example.model))
        for name, output in outputs.items():
            layer = example.model.get_submodule(name)
            stack.enter_context(LayerTap().listen(layer, _Comparison(name, output.detach(), same)))
        example.run(change_image(example.image.detach()))
        return {name for name, is_same in same.items() if is_same}
    return set()


def change_image(image: Tensor) -> Tensor:
    """Another image of the same range: mirrored, less strong, a little brighter."""
    return image.flip(-1) * 0.5 + 0.1


class _Comparison:
    """Notes whether each output of a layer is the same as an earlier one; the last call counts."""

    def __init__(self, name: str, before: Tensor, same: dict[str, bool]) -> None:
        self._name, self._before, self._same = name, before, same

    def __call__(self, output: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        before = self._before
        self._same[self._name] = output.shape == before.shape and bool(
            (output.detach() - before).abs().max() <= SAME_OUTPUT * before.abs().max()
        )
        return output
