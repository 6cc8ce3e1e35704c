"""Check the layers that a user named."""

from torch import Tensor, nn

from explainable_model.attribution.plan import Plan
from explainable_model.eager.find_layer import Example, check_layer, record_outputs
from explainable_model.eager.token_places import may_hold_tokens


def check_layers(model: nn.Module, arguments: tuple[Tensor, ...], plan: Plan, checked: set[tuple[int, ...]]) -> None:
    """Refuse layers whose tokens are no places of the image, see ``check_places``.

    Args:
        model: the network.
        arguments: the image and the extra inputs.
        plan: names the layers.
        checked: shapes of images for which the layers were checked; the image's is added.

    Raises:
        LayerError: there is such a layer.
    """
    shape = tuple(arguments[0].shape[1:])
    if shape in checked:
        return
    is_read_by_shape = plan.frames is None and plan.reshape_transform is None
    if is_read_by_shape and plan.layers and may_hold_tokens(model):
        example = Example(model, arguments, plan.output, plan.target, forward=plan.forward)
        record, _ = record_outputs(example, example.image.detach().clone())
        for name in plan.layers:
            layout = record.outputs[name].layout if name in record.outputs else None
            if layout is not None:
                check_layer(example, name, layout)
    checked.add(shape)
