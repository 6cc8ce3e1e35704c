"""The image sizes that the guards of a graph with open height and width allow."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor
from torch.export import ExportedProgram

from explainable_model.artifact.shapes import SPATIAL, SizeRange
from explainable_model.errors import LoweringError, first_line
from explainable_model.lowering.capture.export import quiet_export

Allowed: TypeAlias = Callable[[Sequence[int]], str]
"""``spatial size -> ""``, or the guard that refuses it."""

# A guard is a condition on the sizes for which the traced path is right. In general one cannot read off a guard whether
# it holds for every larger size, so it is evaluated at these steps above the example. An artifact is compared with the
# network at some of them too.
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 32, 37, 64)
LARGEST = 4096
BATCHES = (1, 2, 7)


def find_sizes(
    programs: Sequence[ExportedProgram], example: Sequence[Tensor], batches: Sequence[int]
) -> tuple[SizeRange, ...]:
    """The sizes that the guards of all programs allow, for each spatial dimension.

    Args:
        programs: traces whose first input is the image.
        example: the image ``(N, C, *spatial)`` and the other inputs that they were traced with.
        batches: the batch sizes to ask for.

    Raises:
        LoweringError: the network takes another path for other sizes; the condition is named.
    """
    allowed = _guards(programs, example, batches)
    size = list(example[0].shape[2:])
    ranges = [_range(allowed, size, dim) for dim in range(len(size))]
    # So far one dimension changed at a time; a guard may be on several dimensions together.
    for steps in ((1, 2, 3), (3, 1, 2), (7, 7, 7), None):
        together = [r.minimum if steps is None else size[d] + r.multiple * steps[d] for d, r in enumerate(ranges)]
        if refusal := allowed(together):
            raise _refused(together, refusal)
    return tuple(ranges)


def _range(allowed: Allowed, size: Sequence[int], dim: int) -> SizeRange:
    def at(length: int) -> str:
        return allowed([*size[:dim], length, *size[dim + 1 :]])

    refusal = ""
    for multiple in (n for n in range(1, size[dim] + 1) if size[dim] % n == 0):
        above = [size[dim] + multiple * k for k in STEPS if size[dim] + multiple * k <= max(LARGEST, size[dim])]
        refusals = [at(length) for length in above]
        if not any(refusals):
            smallest = size[dim]
            while smallest > multiple and not at(smallest - multiple):
                smallest -= multiple
            return SizeRange(smallest, multiple)
        refusal = refusal or next(filter(None, refusals))
    raise _refused([size[d] + (d == dim) for d in range(len(size))], refusal)


def open_size_error(reason: str) -> LoweringError:
    """The error for a network that takes one image size only."""
    return LoweringError(
        f"The network cannot be lowered with an open height and width: {reason} Networks with a table of positions or "
        "a classifier for one map size, and methods that visit every position (Recipro-CAM), take one image size "
        "only: leave dynamic_size=False and resize the images, or lower it once for each size. Where only small images "
        "are special, give a larger example."
    )


def _refused(size: Sequence[int], guard: str) -> LoweringError:
    condition = guard.removeprefix("Guard failed: ")
    for dim, name in enumerate(("N", "C", *(name[0].upper() for name in SPATIAL[-len(size) :]))):
        condition = condition.replace(f"image.size()[{dim}]", name)
    return open_size_error(f"images of size {tuple(size)} break its condition {condition}.")


def _guards(programs: Sequence[ExportedProgram], example: Sequence[Tensor], batches: Sequence[int]) -> Allowed:
    checks: list[Any] = []
    with quiet_export():
        for program in programs:
            module = program.module()
            checks += [child for name, child in module.named_children() if "guards" in name]

    def allowed(size: Sequence[int]) -> str:
        for batch in batches:
            image = example[0].new_empty((batch, example[0].shape[1], *size), device="meta")
            others = [tensor.new_empty((batch, *tensor.shape[1:]), device="meta") for tensor in example[1:]]
            for check in checks:
                try:
                    check(image, *others)
                except AssertionError as error:
                    return first_line(error)
        return ""

    return allowed
