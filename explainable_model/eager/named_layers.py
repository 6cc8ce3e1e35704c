"""Check the layers that are explained, and the tokens whose attention a method reads."""

import warnings
from functools import partial

from torch import Tensor, nn

from explainable_model.attribution.layout import SpatialLayout
from explainable_model.attribution.plan import ATTENTION_TAPS, Plan
from explainable_model.eager.buffers import restored_buffers
from explainable_model.eager.example import Example
from explainable_model.eager.find_layer import check_layer, record_outputs, run_copies
from explainable_model.eager.layer_candidates import may_hold_tokens
from explainable_model.eager.moved_places import find_move, watch_first_convolution
from explainable_model.eager.record import OutputRecord
from explainable_model.errors import DoubtfulPlacesWarning, LayerError


def check_layers(model: nn.Module, arguments: tuple[Tensor, ...], plan: Plan, checked: set[tuple[int, ...]]) -> None:
    """Refuse layers, or attention, whose tokens are no places of the image, see ``check_places``.

    A map that lies elsewhere than the image gets a warning, see ``find_move``, at the first shape of images.

    Args:
        model: the network.
        arguments: the image and the extra inputs.
        plan: names the layers.
        checked: shapes of images for which the layers were checked; the image's is added.

    Raises:
        LayerError: there is such a layer, or such attention.
    """
    shape = tuple(arguments[0].shape[1:])
    if shape in checked:
        return
    is_read_by_shape = plan.frames is None and plan.reshape_transform is None
    reads_attention = any(name in ATTENTION_TAPS for name in plan.side_taps)
    holds_tokens = may_hold_tokens(model)
    may_move = not checked and arguments[0].ndim > 2
    if is_read_by_shape and (plan.layers or reads_attention) and (holds_tokens or may_move):
        example = Example(model, arguments, plan.output, plan.target, forward=plan.forward)
        image = example.image.detach().clone()
        with restored_buffers(model), watch_first_convolution(model, example.image) as takes_image:
            record, _ = record_outputs(example, image)
        for name in plan.layers:
            entry = record.outputs.get(name)
            if entry is None or entry.layout is None:
                continue
            doubt = check_layer(example, name, entry.layout, is_map=record.is_map(entry)) if holds_tokens else None
            is_copy = takes_image == [False] or (entry.calls > 1 and plan.call is None)
            if doubt is None and may_move and is_copy and isinstance(entry.layout, SpatialLayout):
                doubt = find_move(model, name, entry.layout, example.image.detach(), partial(run_copies, example))
            if doubt is not None:
                warnings.warn(doubt, DoubtfulPlacesWarning, stacklevel=2)
        if reads_attention:
            _check_attention(example, record, plan.method.name)
    checked.add(shape)


def _check_attention(example: Example, record: OutputRecord, method: str) -> None:
    """Attention knows no layer: of each number of tokens, the first layer shows where they lie."""
    first: dict[int, tuple[str, SpatialLayout]] = {}
    for name, entry in record.outputs.items():
        if isinstance(entry.layout, SpatialLayout) and entry.layout.kind == "tokens":
            first.setdefault(entry.shape[1], (name, entry.layout))
    for name, layout in first.values():
        try:
            check_layer(example, name, layout, needs_proof=False)
        except LayerError as error:
            raise LayerError(
                f"Method {method!r} reads the attention over all tokens, and takes them for the patches in rows, after "
                f"the class token and registers. Here they are not: {error} That argument is for methods that explain "
                "at a layer; use one of them."
            ) from error
