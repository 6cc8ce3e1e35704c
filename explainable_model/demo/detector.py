"""A small trained detector, FCOS of torchvision over the first stages of EfficientNet-Lite0, for demos and tests."""

import importlib
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explainable_model.demo.files import missing_error
from explainable_model.imaging.preprocess import Preprocess
from explainable_model.networks.named import NamedModel

if TYPE_CHECKING:
    from torch import nn

CLASSES = ("cat", "coin", "cup", "face", "flower")
SIDE = 192  # pixels of the square image
WEIGHTS = Path(__file__).with_name("detector.safetensors")
CHANNELS = 64  # of each level
STAGES = {2: 40, 4: 112}  # number of a stage of EfficientNet-Lite0 and its channels; every 8th and 16th pixel
STRIDES = (8, 16, 32)
TOWER = 3  # convolutions before the answers
MINIMUM_SCORE = 0.5
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # TensorFlow's pixels are (value - 127) / 128
PREPROCESS = Preprocess((SIDE, SIDE), mean=(0.0,) * 3, std=(1.0,) * 3, resize=None)


def make_detector() -> "nn.Module":
    """Make the detector with random weights: ``torchvision.models.detection.FCOS`` with three levels of 64 channels.

    It takes what torchvision's detectors take, a list of ``(3, H, W)`` images in [0, 1], and normalizes them itself.

    Raises:
        MissingRuntimeError: timm is not installed.

    Source: Tian et al. 2019, arXiv 1904.01355; the stages are TensorFlow's EfficientNet-Lite0.
    """
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead

    backbone = _make_pyramid()
    network: nn.Module = FCOS(
        backbone,
        len(CLASSES),
        min_size=SIDE,
        max_size=SIDE,
        image_mean=list(MEAN),
        image_std=list(STD),
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        head=FCOSHead(CHANNELS, 1, len(CLASSES), num_convs=TOWER),
        score_thresh=MINIMUM_SCORE,
        nms_thresh=0.5,
    )
    return network


def load_detector() -> NamedModel:
    """Load the detector with its trained weights: cats, coins, cups, faces and flowers in images of 192 x 192 pixels.

    It was trained on generated scenes: cut-outs of few real objects on real photos. It is good enough to show maps of
    boxes, and for nothing else. ``examples/detector`` has the script and the scores.

    Raises:
        MissingRuntimeError: timm or safetensors is not installed.

    Example:
        >>> named = load_detector()
        >>> named.class_names
        ('cat', 'coin', 'cup', 'face', 'flower')
    """
    import torch

    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise missing_error("safetensors") from error
    network = make_detector()
    state = load_file(WEIGHTS)  # in float16, apart from counters
    network.load_state_dict({name: v.float() if v.dtype == torch.float16 else v for name, v in state.items()})
    return NamedModel(network.eval(), PREPROCESS, CLASSES)


def _make_pyramid() -> "nn.Module":
    """Make the trunk: two stages of EfficientNet-Lite0 and a third level below them, with 64 channels each."""
    from torch import nn
    from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

    try:
        timm: Any = importlib.import_module("timm")
    except ImportError as error:
        raise missing_error("timm") from error
    network = timm.create_model("tf_efficientnet_lite0")

    class Pyramid(nn.Module):
        out_channels = CHANNELS

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(network.conv_stem, network.bn1)
            self.stages = network.blocks[: max(STAGES) + 1]
            self.pyramid = FeaturePyramidNetwork(list(STAGES.values()), CHANNELS, LastLevelMaxPool())

        def forward(self, image: Any) -> Any:
            features, levels = self.stem(image), OrderedDict()
            for number, stage in enumerate(self.stages):
                features = stage(features)
                if number in STAGES:
                    levels[str(number)] = features
            return self.pyramid(levels)

    return Pyramid()
