"""``attribute``: activations and gradients of a layer, or the image and its gradient, signed and by channel."""

import pytest
import torch

from explainable_model import ExplainableModel
from explainable_model.errors import LayerError
from tests.methods.oracle import CLASSES, LAYER, activations_of, batch, each, image_gradient, layer_gradient, small
from tests.support.nets import TinyViT, images, seeded


@pytest.mark.parametrize("layer", [0, LAYER, -2])
def test_one_of_several_layers(layer: int | str) -> None:
    network, image = small(), batch()
    found = ExplainableModel(network, [LAYER, "stem"]).attribute(image, CLASSES, layer=layer)
    torch.testing.assert_close(found.activations, activations_of(network, LAYER, image))
    torch.testing.assert_close(
        found.gradients, each(lambda one, c: layer_gradient(network, LAYER, one, lambda logits: logits[c]), image)
    )
    assert found.class_idx.tolist() == list(CLASSES)


def test_the_last_of_several_layers() -> None:
    network, image = small(), batch()
    found = ExplainableModel(network, [LAYER, "stem"]).attribute(image, CLASSES, layer=-1)
    torch.testing.assert_close(found.activations, activations_of(network, "stem", image))


@pytest.mark.parametrize("method", ["saliency", "guided_backprop", "integrated_gradients"])
def test_a_method_at_the_image_has_the_gradient_of_every_channel(method: str) -> None:
    network, image = small(), batch()
    found = ExplainableModel(network, None, method).attribute(image, CLASSES)
    assert found.activations is not None
    torch.testing.assert_close(found.activations, image)
    torch.testing.assert_close(found.gradients, each(lambda one, c: image_gradient(network, one, c), image))


def test_refusals() -> None:
    with pytest.raises(LayerError, match="layer is 2; expected one of the target layers of 'gradcam'"):
        ExplainableModel(small(), [LAYER, "stem"]).attribute(batch(), layer=2)
    with pytest.raises(LayerError, match="layer is 'fc'; expected one of .* 'block', 'stem'"):
        ExplainableModel(small(), [LAYER, "stem"]).attribute(batch(), layer="fc")
    with pytest.raises(LayerError, match="of 'rollout': it has no target layer"):
        ExplainableModel(seeded(TinyViT()), None, "rollout").attribute(images(1))
