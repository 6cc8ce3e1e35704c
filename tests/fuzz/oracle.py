"""What the formulas need of a network, by hooks and autograd that share no code with the package."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.targets import Binary, Custom, Difference, Segmentation, Similarity
from tests.fuzz.cases import Case
from tests.fuzz.formulas import FORMULAS
from tests.fuzz.sight import Sight, Undefined

REFUSED = ("inplace operation", "modified inplace", "in-place operation", "multiple views")
RECTIFIERS = ("ReluBackward", "HardtanhBackward")  # ReLU6 is a hardtanh
NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
INDEPENDENT = "the score does not depend on the layer"


@dataclass
class Watched:
    """One run of the network: scores ``(M, S)``, those to differentiate, the selected output and the layer's leaf."""

    values: Tensor
    differentiable: Tensor
    logits: Tensor
    leaf: Any


def select(output: Any, wanted: Any) -> Tensor:
    """The scores in whatever the network returns."""
    if isinstance(output, Tensor):
        return output
    if callable(wanted):
        return wanted(output)
    if wanted is not None:
        return output[wanted]
    if isinstance(output, list):
        return output[1][0]
    return output["logits"] if isinstance(output, dict) else output.logits


def scores_of(target: Any, logits: Tensor, deciding: Tensor, given: Sequence[Tensor], class_idx: Tensor) -> Tensor:
    """``(M, S)``: the scores of a target.

    Args:
        target: of the case.
        logits: what is scored.
        deciding: the output of the network itself, which decides about the pixels of a segmentation.
        given: the target's inputs.
        class_idx: ``(M,)``, for a target of one's own.
    """
    if isinstance(target, Similarity):
        return functional.cosine_similarity(logits.flatten(1), given[0].flatten(1), dim=1, eps=0).unsqueeze(1)
    if isinstance(target, Custom):
        return target.score(logits, class_idx).unsqueeze(1)
    if isinstance(target, Segmentation) and target.mask is not None:
        if target.mask == "input":
            pixels = given[0].unsqueeze(1)
        elif deciding.shape[1] == 1:
            pixels = (deciding > target.threshold).to(deciding)
        else:
            pixels = (deciding == deciding.max(1, keepdim=True).values).to(deciding)
        return (logits * pixels.detach()).sum(tuple(range(2, logits.ndim)))
    table = logits.reshape(len(logits), -1) if logits.ndim < 3 else logits.sum(tuple(range(2, logits.ndim)))
    if isinstance(target, Binary):
        return torch.cat([target.threshold - table, table - target.threshold], 1)
    if isinstance(target, Difference):
        return table - table[:, [target.other]]
    return table


@contextmanager
def watching(layer: nn.Module | None, exchange: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let ``exchange`` replace the first tensor of each output of a layer."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (exchange(output[0]), *output[1:])
        return exchange(output)

    handles = [] if layer is None else [layer.register_forward_hook(hook)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Oracle:
    """Runs the network of a case, one image at a time.

    Args:
        case: the network, the layer, the target.
        inputs: ``(N, ...)``, the image, what else the network takes, and what the target takes.
    """

    def __init__(self, case: Case, inputs: Sequence[Tensor]) -> None:
        self.case, self.inputs, self._calls = case, inputs, 1
        count = 1 + (case.network.extra is not None)
        self._network_inputs, self._given = inputs[:count], inputs[count:]
        self._layer = case.network.module.get_submodule(case.layer) if case.layer else None

    def run(
        self, image: Tensor, n: int, class_idx: int = 0, replace: Tensor | None = None, grad: bool = True
    ) -> Watched:
        """Run copies of image ``n``.

        Args:
            image: ``(M, C, *size)``, the copies.
            n: whose other inputs they have.
            class_idx: for a target of one's own.
            replace: ``(M, ...)``, what the layer hands on instead at its last call.
            grad: whether gradients are wanted.
        """
        leaves: list[Tensor] = []

        def exchange(output: Tensor) -> Tensor:
            if replace is not None:
                leaves.append(replace if len(leaves) + 1 == self._calls else output.detach())
            else:
                leaves.append(output.detach().clone().requires_grad_(grad))
            return leaves[-1].clone()

        others = [tensor[n : n + 1].expand(len(image), *tensor.shape[1:]) for tensor in self._network_inputs[1:]]
        given = [tensor[n : n + 1].expand(len(image), *tensor.shape[1:]) for tensor in self._given]
        module: Any = self.case.network.module
        before: list[Tensor] = []
        handles = [module.ending.register_forward_pre_hook(lambda ending, inputs: before.append(inputs[0]))]
        handles += [norm.register_forward_hook(_in_order) for norm in module.modules() if isinstance(norm, NORMS)]
        watched = None if image.requires_grad else self._layer
        try:
            with torch.set_grad_enabled(grad), watching(watched, exchange):
                output = module(image.clone(), *others)
        finally:
            for handle in handles:
                handle.remove()
        self._calls = len(leaves) if replace is None else self._calls  # of the layer in one run
        logits = select(output, self.case.network.output)
        classes = torch.full((len(image),), class_idx)
        target = self.case.target
        values = scores_of(target, logits, logits, given, classes)
        linear = not isinstance(target, (Similarity, Custom))
        scored = before[0] if linear and self.case.network.ending else logits
        differentiable = scores_of(target, scored, logits, given, classes) if linear else values
        return Watched(values, differentiable, logits, leaves[-1] if leaves else None)

    def to_map(self, tensor: Tensor) -> Tensor:
        """``(1, ...)`` as the layer returns it, as ``(K, *grid)``."""
        kind, grid, prefix = self.case.layout
        if kind == "channels_first":
            return tensor[0]
        if kind == "channels_last":
            return tensor[0].movedim(-1, 0)
        return tensor[0, prefix:].T.reshape(-1, *grid)

    def from_map(self, maps: Tensor, like: Tensor) -> Tensor:
        """``(M, K, *grid)`` as the layer returns it; tokens before the patches stay as they are in ``like``."""
        kind, _, prefix = self.case.layout
        if kind == "channels_first":
            return maps
        if kind == "channels_last":
            return maps.movedim(1, -1)
        return torch.cat([like[:, :prefix].expand(len(maps), -1, -1), maps.flatten(2).transpose(1, 2)], 1)

    def sight(self, n: int, column: int, class_idx: int) -> Sight:
        """What the formula of the case sees of image ``n``.

        Raises:
            Undefined: autograd refuses, or the score does not depend on the layer.
        """
        image = self.inputs[0][n : n + 1]
        run = self.run(image, n, class_idx)

        def gradient(copy: Tensor, weights: Tensor | None = None) -> Tensor:
            run = self.run(copy, n, class_idx)
            score = run.differentiable[0, column] if weights is None else (run.differentiable[0] * weights).sum()
            return self.to_map(_gradient(score, run.leaf))

        def image_gradient(copy: Tensor, guided: bool = False) -> Tensor:
            leaf = copy.clone().requires_grad_()
            if not guided:
                return _gradient(self.run(leaf, n, class_idx).differentiable[0, column], leaf)[0]
            with _out_of_place(self.case.network.module):
                score = self.run(leaf, n, class_idx).differentiable[0, column]
            if not torch.equal(score, run.differentiable[0, column]):
                raise Undefined("an operation in place changes what another one reads")
            _let_rectifiers_guide(score)
            return _gradient(score, leaf)[0]

        def tail(maps: Tensor) -> Tensor:
            replace = self.from_map(maps, run.leaf.detach())
            ran = self.run(
                image.expand(len(maps), *image.shape[1:]), n, class_idx, replace=replace, grad=maps.requires_grad
            )
            return (ran.differentiable if maps.requires_grad else ran.values)[:, column]

        needs_layer = self._layer is not None
        return Sight(
            image=image,
            activations=self.to_map(run.leaf.detach()) if needs_layer else None,
            gradients=gradient(image) if needs_layer and self.case.differentiates else None,
            rerun=lambda images: self.run(images, n, class_idx, grad=False).values[:, column],
            tail=tail,
            tail_gradient=gradient,
            image_gradient=image_gradient,
            guided_gradient=lambda copy: image_gradient(copy, guided=True),
            compare=lambda weights: gradient(image, weights),
            values=run.values[0].detach(),
            column=column,
            options=self.case.options,
        )

    def explain(self, n: int, column: int, class_idx: int) -> tuple[Tensor, Sight]:
        """The signed map ``(*grid)`` of image ``n``, and what it was made from.

        Raises:
            Undefined: the formula has no stable value.
        """
        try:
            sight = self.sight(n, column, class_idx)
            return FORMULAS[self.case.method](sight), sight
        except RuntimeError as error:
            if any(words in str(error) for words in REFUSED):
                raise Undefined("autograd refuses an operation in place") from error
            raise


def _in_order(norm: nn.Module, inputs: Any, output: Tensor) -> None:
    """PyTorch's gradient of instance norm is wrong for one image where it arrives with its channels last in memory."""
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)


@contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """Autograd hides a rectifier that writes into a view, as instance norm returns one, in another node."""
    changed: list[Any] = [part for part in module.modules() if getattr(part, "inplace", False)]
    for part in changed:
        part.inplace = False
    try:
        yield
    finally:
        for part in changed:
            part.inplace = True


def _let_rectifiers_guide(score: Tensor) -> None:
    """Let every rectifier behind a score pass only the positive part of the gradient that comes to it."""
    found, waiting = set(), [score.grad_fn]
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in found:
            continue
        found.add(node)
        if node.name() == "CopySlices":
            raise Undefined("an operation writes into a view")
        if str(node.name()).rstrip("0123456789") in RECTIFIERS:
            node.register_prehook(lambda gradients: tuple(gradient.clamp(min=0) for gradient in gradients))
        waiting += [follower for follower, _ in node.next_functions]


def _gradient(score: Tensor, leaf: Tensor) -> Tensor:
    if not score.requires_grad:
        raise Undefined(INDEPENDENT)
    (gradient,) = torch.autograd.grad(score, leaf, allow_unused=True)
    if gradient is None:
        raise Undefined(INDEPENDENT)
    return gradient


def finished(cam: Tensor, size: Sequence[int], normalize: str, upsample: str, signed: bool) -> Tensor:
    """A signed map ``(*grid)`` rectified, scaled and resized, written from the documentation of the options."""
    cam = cam if signed else cam.clamp(min=0)
    if normalize == "max":
        cam = cam / cam.abs().max() if bool(cam.any()) else cam
    elif normalize == "minmax":
        spread = cam.max() - cam.min()
        cam = (cam - cam.min()) / spread if spread > 0 else torch.zeros_like(cam)
    if upsample == "none":
        return cam
    for axis, length in enumerate(size):
        cam = _resized(cam, axis, length, upsample)
    return cam


def _resized(cam: Tensor, axis: int, length: int, upsample: str) -> Tensor:
    """One axis with half-pixel centers."""
    cells = cam.shape[axis]
    place = (torch.arange(length, dtype=torch.float64) + 0.5) * cells / length
    if upsample == "nearest":
        return cam.index_select(axis, place.floor().long())
    place = (place - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=cells - 1)
    share = (place - low).reshape(-1, *[1] * (cam.ndim - axis - 1))
    high = (low + 1).clamp(max=cells - 1)
    return cam.index_select(axis, low) * (1 - share) + cam.index_select(axis, high) * share
