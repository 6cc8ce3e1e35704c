"""Networks of smaller packages: language and images, medicine, faces, training frameworks."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.packages.case import Case
from explainable_model import targets


def build_from(module: str, name: str, *given: Any, **options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        return getattr(import_module(module), name)(*given, **options)

    return build


def case_of(package: str, name: str, build: Callable[[], nn.Module], *rest: Any, **ask: Any) -> Case:
    return Case(f"{package}:{name}", build, *rest, **ask)


def _build_clip(name: str, **changes: Any) -> Callable[[], nn.Module]:
    """A CLIP of open_clip, small."""

    def build() -> nn.Module:
        from open_clip.model import CLIP

        text = {"context_length": 16, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
        vision = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 64, **changes}
        model = CLIP(16, vision, text)
        return model.visual if name == "visual" else model

    return build


def _similar(output: Tensor, reference: Tensor) -> Tensor:
    return functional.cosine_similarity(output, reference).unsqueeze(1)


def similarity(width: int, *, signed: bool = False, **ask: Any) -> dict[str, Any]:
    return {
        "arguments": {"target": targets.Similarity(), **({"signed": True} if signed else {})},
        "inputs": lambda batch, g: (torch.randn(batch, width, generator=g, dtype=torch.float64),),
        "read_scores": _similar,
        "meaning": "the similarity to a reference",
        **ask,
    }


def _build_learner(name: str) -> Callable[[], nn.Module]:
    """The network that a learner of fastai trains."""

    def build() -> nn.Module:
        import torchvision
        from fastai.vision import all as fastai

        if name == "vision learner":
            return fastai.create_vision_model(torchvision.models.resnet18, 5, pretrained=False)
        if name == "xresnet18":
            return fastai.xresnet18(n_out=5)
        body = fastai.create_body(torchvision.models.resnet18(weights=None), pretrained=False)
        return fastai.DynamicUnet(body, 4, (64, 64))

    return build


def _build_lightning(inside: str) -> Callable[[], nn.Module]:
    """A LightningModule round a network of torchvision."""

    def build() -> nn.Module:
        import lightning
        import torchvision

        class Classifier(lightning.LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.save_hyperparameters()
                self.model = torchvision.models.get_model(inside, weights=None, num_classes=5)

            def forward(self, x: Tensor) -> Tensor:
                return self.model(x)

            def training_step(self, batch: Any, index: int) -> Tensor:
                return functional.cross_entropy(self(batch[0]), batch[1])

        return Classifier()

    return build


CLASS = "one of 5 classes"
CASES = [
    case_of(
        "open_clip",
        "visual transformer",
        _build_clip("visual"),
        ("transformer.resblocks.1.ln_1",),
        (8, 8),
        **similarity(16),
    ),
    case_of(
        "open_clip",
        "visual resnet",
        _build_clip("visual", layers=[1, 1, 1, 1], width=16, head_width=16),
        ("layer4",),
        (2, 2),
        **similarity(16, mixes=True),
    ),
    case_of("open_clip", "CLIP", _build_clip("whole"), refused="output=|Similarity"),
    case_of(
        "torchxrayvision",
        "DenseNet",
        build_from("torchxrayvision.models", "DenseNet", weights=None, in_channels=1, num_classes=18),
        ("features",),
        (4, 4),
        "one of 18 findings",
        shape=(1, 128, 128),
    ),
    case_of(
        "torchxrayvision",
        "ResNetAE",
        build_from("torchxrayvision.autoencoders", "ResNetAE101"),
        ("uplayer_top",),
        (224, 224),
        "the reconstruction, summed over all pixels",
        kind="scores",  # nothing tells a picture of one channel from the logits of a mask
        shape=(1, 224, 224),
    ),
    case_of(
        "facenet-pytorch",
        "InceptionResnetV1, people",
        build_from("facenet_pytorch", "InceptionResnetV1", classify=True, num_classes=5),
        ("block8",),
        (3, 3),
        "one of 5 people",
        shape=(3, 160, 160),
        mixes=True,
    ),
    case_of(
        "facenet-pytorch",
        "InceptionResnetV1, embedding",
        build_from("facenet_pytorch", "InceptionResnetV1"),
        ("block8",),
        (3, 3),
        shape=(3, 160, 160),
        mixes=True,
        **similarity(512),
    ),
    case_of(
        "efficientnet_pytorch",
        "EfficientNet-b0",
        lambda: import_module("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0", num_classes=5),
        ("_bn1", "_swish"),
        (4, 4),
        CLASS,
        shape=(3, 128, 128),
    ),
    case_of("fastai", "vision learner", _build_learner("vision learner"), ("0",), (4, 4), CLASS, shape=(3, 128, 128)),
    case_of("fastai", "xresnet18", _build_learner("xresnet18"), ("7",), (4, 4), CLASS, shape=(3, 128, 128)),
    case_of(
        "fastai",
        "DynamicUnet",
        _build_learner("unet"),
        ("layers.11",),
        (64, 64),
        "one of 4 classes, summed over all pixels",
    ),
    case_of(
        "lightning", "resnet18", _build_lightning("resnet18"), ("model.layer4",), (4, 4), CLASS, shape=(3, 128, 128)
    ),
    case_of(
        "lightning",
        "convnext_tiny",
        _build_lightning("convnext_tiny"),
        ("model.features",),
        (4, 4),
        CLASS,
        shape=(3, 128, 128),
    ),
]
