"""Whether a detector's artifact finds the same boxes as the network, with the same maps."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Array, Runner, as_array
from explainable_model.artifact.tolerances import FLIP_CORRELATION, Tolerance, tolerance_of
from explainable_model.explanation import PREDICTED, list_outputs
from explainable_model.verify.network_answer import map_difference
from explainable_model.verify.parity import BATCHES, ImageComparison, Parity, correlation, summarize

if TYPE_CHECKING:
    from torch import Tensor

    from explainable_model.attribution.boxes import BoxScore
    from explainable_model.explanation import DetectionExplanation
    from explainable_model.lowering.imaging import PhotoIO
    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.model import ExplainableModel

NOISE = 0.02  # of the example's spread: of much noise, a trained detector finds nothing
PIXELS = 0.05  # by which coordinates may differ, beside the tolerance
SWAPPED_SHARE = 0.25  # of images in which boxes whose scores tie may change places
NO_BOX = (
    "the network found no box in the example, so that no map could be compared; give an example with objects, or a "
    "lower score_threshold"
)


def check_detections(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """Compare an artifact with the network on the example and on images that are like it.

    Boxes whose scores differ by no more than the tolerance may change places, as classes that tie do: their maps are
    not compared, and few of them are allowed.

    Args:
        explainable: the network, or the graph, that the artifact must agree with.
        lowered: the graph that the artifact was made from.
        metadata: the artifact's metadata.
        runner: the artifact in its runtime.
    """
    batches = list(BATCHES) if metadata.batch is None else [metadata.batch] * 2
    inputs = lowered.example_inputs
    photo_io = lowered.photo_io
    tolerance = tolerance_of(lowered.precision, metadata.format, photos=photo_io is not None)
    rows = list(_compare(explainable, lowered.example, inputs, runner, tolerance, photo_io, shift=False))
    for seed, batch in enumerate(batches):
        image, others = _similar(lowered, batch, seed)
        rows += _compare(explainable, image, others, runner, tolerance, photo_io, shift=seed == 1 and not inputs)
    parity = summarize(rows, [len(lowered.example), *batches], NO_BOX)
    if parity.flipped > SWAPPED_SHARE * len(rows):
        return replace(parity, passed=False, reason=f"it finds other boxes in {parity.flipped} of {len(rows)} images")
    return parity


def _similar(lowered: "LoweredModel", batch: int, seed: int) -> "tuple[Tensor, tuple[Tensor, ...]]":
    """Images like the example and the extra inputs; for a graph that prepares photos, photos of other sizes."""
    photo_io, inputs = lowered.photo_io, lowered.example_inputs
    if photo_io is None:
        return similar_images(lowered.example, batch, seed), inputs
    from explainable_model.lowering.example_photos import make_photos_like, photo_sizes
    from explainable_model.lowering.photo_model import map_last

    image = similar_images(photo_io.image(lowered.example), batch, seed)
    photos = make_photos_like(image, photo_io, photo_sizes(photo_io)[1 + seed % 2]).to(lowered.example.device)
    given = _count_given(lowered)
    inputs = map_last(photo_io.given_boxes, inputs, given, lowered.example)
    return photos, map_last(photo_io.boxes, inputs, given, photos)


def _count_given(explainable: "ExplainableModel | LoweredModel") -> int:
    """How many of the last inputs are boxes."""
    return cast("BoxScore", explainable.plan.target).inputs


def similar_images(example: "Tensor", batch: int, seed: int) -> "Tensor":
    """``(batch, C, H, W)``: images of the example, some of them mirrored, each with a little noise."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    spread = float(example.float().std()) or 1.0
    images = []
    for n in range(batch):
        source = example[(n + seed) % len(example)].cpu().float()
        source = source.flip(-1) if (n + seed) % 2 == 0 else source
        images.append(source + NOISE * spread * torch.randn(source.shape, generator=generator))
    return torch.stack(images).to(example)


def _compare(
    explainable: "ExplainableModel | LoweredModel",
    image: "Tensor",
    inputs: "Sequence[Tensor]",
    runner: Runner,
    tolerance: Tolerance,
    photo_io: "PhotoIO | None",
    *,
    shift: bool,
) -> Iterator[ImageComparison]:
    """Compare one batch; with ``shift``, the boxes are asked for in another order."""
    import torch

    boxes = [values[[n % len(values) for n in range(len(image))]] for values in inputs]
    want = _answer(explainable, image, None, boxes, photo_io)
    ranks: NDArray[np.int64] = np.full(want[1].shape, PREDICTED, np.int64)
    if shift and ranks.shape[1] > 1:
        ranks[:] = np.arange(ranks.shape[1])[::-1]
        want = _answer(explainable, image, torch.from_numpy(ranks).to(image.device), boxes, photo_io)
    asked = ranks if explainable.plan.top_k is not None else ranks[:, 0]
    got = runner(as_array(image), asked, *map(as_array, boxes))
    for number, (one, other) in enumerate(zip(want, got, strict=True)):
        if one.shape != other.shape or not np.isfinite(other).all():
            problem = f"output {number} has shape {other.shape} instead of {one.shape}, or is not finite"
            yield ImageComparison(np.inf, np.inf, 0.0, False, False, False, problem)
            return
    for n in range(len(image)):
        yield _compare_image([one[n] for one in want], [other[n] for other in got], n, len(image), tolerance)


def _answer(
    explainable: "ExplainableModel | LoweredModel",
    image: "Tensor",
    ranks: "Tensor | None",
    boxes: "Sequence[Tensor]",
    photo_io: "PhotoIO | None",
) -> list[Array]:
    """The network's own answer; ``image`` holds photos where ``photo_io`` prepares them."""
    if ranks is not None and explainable.plan.top_k is None:
        ranks = ranks[:, 0]
    prepared = image.clone()
    if photo_io is not None:
        from explainable_model.lowering.photo_model import in_photo, map_last

        prepared, boxes = photo_io.image(image), map_last(photo_io.given_boxes, boxes, _count_given(explainable), image)
    answer = cast("DetectionExplanation[Tensor]", explainable(prepared, ranks, *boxes))
    outputs: Sequence[Tensor] = list_outputs(answer)
    if photo_io is not None:
        outputs = in_photo(outputs, photo_io, image)
    return [as_array(output) for output in outputs]


def _compare_image(
    want: Sequence[Array], got: Sequence[Array], n: int, batch: int, tolerance: Tolerance
) -> ImageComparison:
    boxes, scores, labels, valid, cams = want
    off_scores = float(np.abs(got[1].astype(np.float64) - scores).max(initial=0.0))
    off_cam, similarity, swapped, zero, reason = 0.0, 1.0, False, True, ""
    if off_scores > tolerance.logits:
        reason = f"scores differ by {off_scores:.1e}, allowed {tolerance.logits:.0e}"
    for rank in range(len(scores)):
        room = PIXELS + tolerance.logits * float(np.abs(boxes[rank]).max())
        off_box = float(np.abs(got[0][rank].astype(np.float64) - boxes[rank]).max())
        if off_box > room or labels[rank] != got[2][rank] or valid[rank] != got[3][rank]:
            swapped = True
        elif valid[rank]:
            zero = zero and not cams[rank].any()
            off, same = map_difference(got[4][rank], cams[rank]), correlation(got[4][rank], cams[rank])
            off_cam, similarity = max(off_cam, off), min(similarity, same)
            if off > tolerance.cam and same < FLIP_CORRELATION:
                reason = reason or f"the map of box {rank} differs by {off:.1e}, correlation {same:.4f}"
        elif got[4][rank].any():
            reason = reason or f"there is no box {rank}, and its map is not zero"
    where = f" (image {n} of a batch of {batch})" if reason else ""
    return ImageComparison(off_scores, off_cam, similarity, not swapped, swapped, zero, reason + where)
