"""DETR and its kin in transformers, whose queries need no suppression of duplicates."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explainable_model.attribution.containers import first_tensor, replace_tensor
from explainable_model.detection.candidates import Candidates, Explained, log_odds, take
from explainable_model.detection.family import Tap, Thresholds

THRESHOLDS = Thresholds(score=0.5, iou=None)  # of transformers' post_process_object_detection


def thresholds(network: Any) -> Thresholds:
    """The same for every network."""
    return THRESHOLDS


def detr(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of DETR, Conditional DETR and DAB-DETR, at the output of the encoder.

    Source: Carion et al. 2020, arXiv 2005.12872; Meng et al. 2021, arXiv 2108.06152.
    """
    sizes: list[Any] = []
    encoder = network.model.encoder.layers[-1]

    def change(tokens: Tensor) -> Tensor:
        return tap([torch.unflatten(tokens.mT, 2, sizes[-1])])[0].flatten(2).mT

    watched = _watched(network.model.input_projection, lambda found: sizes.append(tuple(found.shape[2:])))
    with watched, _changed(encoder, change):
        output = network(pixel_values=image)
    return _candidates(network, output, image)


def deformable_detr(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of Deformable DETR, at the output of the encoder: tokens of several levels, one after the other.

    Source: Zhu et al. 2020, arXiv 2010.04159.
    """
    sizes: list[Any] = []

    def change(tokens: Tensor) -> Tensor:
        parts = torch.split(tokens, [height * width for height, width in sizes], 1)
        maps = tap([torch.unflatten(part.mT, 2, size) for part, size in zip(parts, sizes, strict=True)])
        return torch.cat([level.flatten(2).mT for level in maps], 1)

    with ExitStack() as stack:
        for projection in network.model.input_proj:
            stack.enter_context(_watched(projection, lambda found: sizes.append(tuple(found.shape[2:]))))
        stack.enter_context(_changed(network.model.encoder.layers[-1], change))
        output = network(pixel_values=image)
    return _candidates(network, output, image)


def rt_detr(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of RT-DETR, RT-DETRv2 and D-FINE, at the inputs of the decoder.

    Source: Zhao et al. 2023, arXiv 2304.08069.
    """
    with ExitStack() as stack:
        for number, projection in enumerate(network.model.decoder_input_proj):
            stack.enter_context(_changed(projection, partial(tap.one, number)))
        output = network(pixel_values=image)
    return _candidates(network, output, image)


def yolos(network: Any, image: Tensor, tap: Tap) -> Candidates:
    """Candidates of YOLOS, at the patches that go into the last block, after its layer normalization.

    Before a layer normalization, gradient times activation of a token sums to zero, since its length does not matter.

    Source: Fang et al. 2021, arXiv 2106.00666.
    """
    queries, patch = network.config.num_detection_tokens, network.config.patch_size
    down, across = (patch, patch) if isinstance(patch, int) else patch
    size = int(image.shape[2]) // int(down), int(image.shape[3]) // int(across)

    def change(tokens: Tensor) -> Tensor:
        patches = tap([torch.unflatten(tokens[:, 1:-queries].mT, 2, size)])[0]
        return torch.cat([tokens[:, :1], patches.flatten(2).mT, tokens[:, -queries:]], 1)

    with _changed(network.vit.encoder.layer[-1].layernorm_before, change):
        output = network(pixel_values=image)
    return _candidates(network, output, image)


def count_projections(network: Any) -> int:
    """The levels of Deformable DETR or RT-DETR."""
    model = network.model
    return len(model.input_proj if hasattr(model, "input_proj") else model.decoder_input_proj)


def _candidates(network: Any, output: Any, image: Tensor) -> Candidates:
    """Queries with their best class where a softmax has a class for no object, else pairs of a query and a class."""
    logits, boxes = output.logits, output.pred_boxes
    height, width = int(image.shape[2]), int(image.shape[3])

    def corners(found: Tensor) -> Tensor:
        scale = torch.tensor([width, height, width, height], dtype=found.dtype, device=found.device)
        center, size = found[..., :2], found[..., 2:]
        return torch.cat([center - 0.5 * size, center + 0.5 * size], -1) * scale

    if int(logits.shape[2]) > int(network.config.num_labels):
        scores, labels = torch.softmax(logits.detach(), 2)[..., :-1].max(2)
        query = torch.arange(logits.shape[1], device=logits.device).expand_as(labels)
        explained: dict[str, Explained] = {
            "class": lambda chosen: log_odds(take(logits, chosen), take(labels, chosen)),
            "objectness": lambda chosen: -_no_object(take(logits, chosen)),
        }
    else:
        classes = int(logits.shape[2])
        scores = logits.detach().sigmoid().flatten(1)
        place = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
        query = torch.div(place, classes, rounding_mode="floor")
        labels = place - query * classes
        flat = logits.flatten(1)
        explained = {"class": lambda chosen: flat.gather(1, chosen)}
    return Candidates(
        scores=scores,
        boxes=take(corners(boxes.detach()), query),
        labels=labels,
        explained=explained,
        coordinates=lambda chosen: take(corners(boxes), take(query, chosen)),
    )


def _no_object(logits: Tensor) -> Tensor:
    last = torch.full(logits.shape[:-1], logits.shape[-1] - 1, dtype=torch.int64, device=logits.device)
    return log_odds(logits, last)


@contextmanager
def _changed(layer: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Exchange the output of a layer in this thread; ``None`` leaves it."""
    thread = threading.get_ident()

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        tensor = first_tensor(output)
        if threading.get_ident() != thread or tensor is None:
            return None
        changed = change(tensor)
        return None if changed is None else replace_tensor(output, tensor, changed)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _watched(layer: nn.Module, watch: Callable[[Tensor], None]) -> Any:
    """Show the output of a layer in this thread."""
    return _changed(layer, watch)
