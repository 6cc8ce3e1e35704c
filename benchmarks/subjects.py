"""The networks whose speed is measured, and the layers to explain. Only building a network needs torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from explainable_model import ExplainableModel

SIZE = 224
TOP_K = 5


@dataclass(frozen=True)
class Measured:
    """A network of the benchmark: its library, and a layer in the middle."""

    library: str
    middle: str


MODELS: Mapping[str, Measured] = {
    "resnet18": Measured("torchvision", "layer2"),
    "resnet50": Measured("torchvision", "layer2"),
    "mobilenet_v3_large": Measured("torchvision", "features.6"),
    "efficientnet_b0": Measured("torchvision", "features.3"),
    "vgg16_bn": Measured("torchvision", "features.16"),
    "densenet121": Measured("torchvision", "features.denseblock2"),
    "convnext_tiny": Measured("torchvision", "features.3"),
    "vit_b_16": Measured("torchvision", "encoder.layers.encoder_layer_6.ln_1"),
    "tf_efficientnet_lite0": Measured("timm", "blocks.2"),
}
VARIANTS = ("last", "middle", "five")


@dataclass(frozen=True)
class Subject:
    """A network, and the layer to explain.

    Attributes:
        model: key of ``MODELS``, or another of torchvision's.
        layer: name of the layer, or one of ``VARIANTS``: the automatic last one, the one in the middle, or the last
            for five classes at once.
        size: height and width of the images.
    """

    model: str
    layer: str = "last"
    size: int = SIZE

    @property
    def target_layer(self) -> str | None:
        """The argument of ``ExplainableModel``."""
        if self.layer == "middle":
            return MODELS[self.model].middle
        return None if self.layer in VARIANTS else self.layer

    @property
    def top_k(self) -> int | None:
        """The argument of ``ExplainableModel``."""
        return TOP_K if self.layer == "five" else None

    @property
    def key(self) -> str:
        """A name for files and rows."""
        return f"{self.model}/{self.layer}" + ("" if self.size == SIZE else f"@{self.size}")

    def folder(self, scratch: Path) -> Path:
        """The folder of the subject's artifacts."""
        return scratch / self.key.replace("/", "-")

    def make_images(self, batch: int) -> NDArray[np.float32]:
        """The timed images, ``(batch, 3, size, size)``: noise, the same in every process."""
        generator = np.random.default_rng(7)
        return generator.standard_normal((batch, 3, self.size, self.size), dtype=np.float32)

    def build(self) -> "nn.Module":
        """Build the network with random, seeded weights, none at its neutral value."""
        from benchmarks.networks import Network, build

        library = MODELS[self.model].library if self.model in MODELS else "torchvision"
        return build(Network(library, self.model, "", self.size))

    def explainable(self, model: "nn.Module | None" = None, **options: Any) -> "ExplainableModel":
        """Wrap the network in ``ExplainableModel``."""
        from explainable_model import ExplainableModel

        return ExplainableModel(
            self.build() if model is None else model, self.target_layer, top_k=self.top_k, **options
        )


def build_out_of_place(subject: Subject) -> "nn.Module":
    """Build the network without in-place activations, which overwrite the tensors that other libraries' hooks keep."""
    model = subject.build()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return model
