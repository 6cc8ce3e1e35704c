"""CLIP, SigLIP and their kin as a classifier whose classes are texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model.errors import ModelError
from explainable_model.explanation import OutputKind

TEMPLATE = "a photo of a {}."


class ZeroShotClassifier(nn.Module):
    """A network of images and texts with its classes fixed: a classifier of images, like any other.

    ``logits = s cos(e, t_c) + b`` with ``e`` the image's embedding, ``t_c`` that of class ``c``, and the network's own
    scale ``s`` and, of SigLIP, bias ``b``. Softmax over the classes makes CLIP's probabilities, a sigmoid of each makes
    SigLIP's; the cosines of a network without a scale have no probabilities. The network's part for texts does not run
    with the image, and an artifact does not hold it.

    Args:
        network: of transformers (``get_image_features``) or of open_clip (``encode_image``), in evaluation mode.
        embeddings: of the classes, ``(classes, D)``, of any length: another set of classes needs no new network.
        class_names: for reports and artifacts; ``()`` for none.

    Raises:
        ModelError: a network of another kind.
    """

    embeddings: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, network: nn.Module, embeddings: Tensor, class_names: Sequence[str] = ()) -> None:
        super().__init__()
        _method_of(network, "image")
        self.network = network
        self.class_names = tuple(class_names)
        self.register_buffer("embeddings", functional.normalize(embeddings.detach(), dim=-1))
        scale, bias = getattr(network, "logit_scale", None), getattr(network, "logit_bias", None)
        self.register_buffer("scale", torch.ones(()) if scale is None else scale.detach().exp())
        self.register_buffer("bias", torch.zeros(()) if bias is None else bias.detach().clone())
        self.output_kind: OutputKind = "sigmoid_logits" if bias is not None else "scores" if scale is None else "logits"
        self.train(network.training)

    @classmethod
    def from_texts(
        cls,
        network: nn.Module,
        class_names: Sequence[str],
        tokenizer: Callable[..., Any],
        template: str | Sequence[str] = TEMPLATE,
    ) -> "ZeroShotClassifier":
        """Make a classifier of the texts of some classes.

        Args:
            network: of transformers or of open_clip, in evaluation mode.
            class_names: such as ``["cat", "dog"]``.
            tokenizer: the network's own: a tokenizer or processor of transformers, or ``open_clip.get_tokenizer(...)``.
            template: ``{}`` stands for the name; of several, the mean of the unit embeddings is taken, as in CLIP's
                prompt ensembles.

        Raises:
            ModelError: a network of another kind.
            ValueError: no class, or a template without ``{}``.

        Source: Radford et al. 2021, CLIP, arXiv 2103.00020, section 3.1.4; Zhai et al. 2023, SigLIP, arXiv 2303.15343.
        """
        templates = [template] if isinstance(template, str) else list(template)
        if isinstance(class_names, str) or not class_names:
            raise ValueError(f"class_names is {class_names!r}; expected a list of names, such as ['cat', 'dog'].")
        if not templates or any("{}" not in text for text in templates):
            raise ValueError(f"template is {template!r}; expected a text with {{}} in the place of the name.")
        with torch.no_grad():
            sets = [embed_texts(network, [text.format(name) for name in class_names], tokenizer) for text in templates]
            mean = torch.stack([functional.normalize(embeddings, dim=-1) for embeddings in sets]).mean(0)
        return cls(network, mean, class_names)

    def forward(self, image: Tensor) -> Tensor:
        """Classify images ``(N, C, H, W)``: logits ``(N, classes)``."""
        embedding = functional.normalize(_tensor_of(_method_of(self.network, "image")(image)), dim=-1)
        return embedding @ self.embeddings.t() * self.scale + self.bias


def embed_texts(network: nn.Module, texts: Sequence[str], tokenizer: Callable[..., Any]) -> Tensor:
    """Embed texts for a ``ZeroShotClassifier``, or for ``targets.Similarity()`` with one text for each image.

    Args:
        network: of transformers or of open_clip.
        texts: whole sentences.
        tokenizer: see ``ZeroShotClassifier.from_texts``.

    Returns:
        ``(texts, D)``.

    Raises:
        ModelError: a network of another kind.
    """
    encode = _method_of(network, "text")
    place = next(network.parameters()).device
    with torch.no_grad():
        if hasattr(network, "encode_text"):
            return _tensor_of(encode(tokenizer(list(texts)).to(place)))
        # SigLIP was trained on texts that are padded to the longest; for CLIP the padding is masked.
        tokens: Mapping[str, Any] = tokenizer(
            text=list(texts), return_tensors="pt", padding="max_length", truncation=True
        )
        return _tensor_of(encode(**{name: value.to(place) for name, value in tokens.items()}))


def _method_of(network: nn.Module, part: str) -> Callable[..., Any]:
    for name in (f"get_{part}_features", f"encode_{part}"):
        if callable(getattr(network, name, None)):
            found: Callable[..., Any] = getattr(network, name)
            return found
    raise ModelError(
        f"{type(network).__name__} has neither get_{part}_features, as CLIP and SigLIP of transformers, nor "
        f"encode_{part}, as networks of open_clip. Wrap the network in a module with these, or explain the similarity "
        "of embeddings: ExplainableModel(image_tower, target=targets.Similarity())."
    )


def _tensor_of(features: Any) -> Tensor:
    tensor: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return tensor
