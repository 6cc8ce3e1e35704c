"""The methods that agree with a peer through public calls: what is called, on which networks, and how closely."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

from tests.peers import nets
from tests.peers.adapters import (
    SAMPLES,
    Explain,
    captum_ablation,
    captum_image,
    captum_layer,
    captum_occlusion,
    captum_smoothgrad,
    grad_cam,
    grad_cam_guided,
    largest_magnitude,
    noise_of_masks,
    rectified_sum,
    torch_cam,
)

GRAD_CAM, TORCHCAM, CAPTUM = "pytorch-grad-cam", "torchcam", "captum"
PEERS = (GRAD_CAM, TORCHCAM, CAPTUM)
Subject = Callable[[], tuple[nn.Module, str, Tensor]]
ANY_SIZE: tuple[Subject, ...] = (nets.plain, nets.strided)
ANY_SHAPE: tuple[Subject, ...] = (*ANY_SIZE, nets.volume)
IMAGE_SIZE: tuple[Subject, ...] = (nets.plain,)
ROUNDING = 1e-5


@dataclass(frozen=True)
class Pair:
    """A method and the peer's call whose maps must be the same.

    Args:
        method: key of ``METHODS``.
        peer: one of ``PEERS``.
        explain: the peer's call.
        subjects: the networks on which they agree.
        bound: the largest difference of maps in [0, 1].
        arguments: of the public call, where the peer's call has another default.
        either_sign: the sign of the peer's map is arbitrary.
    """

    method: str
    peer: str
    explain: Explain
    subjects: tuple[Subject, ...] = ANY_SIZE
    bound: float = ROUNDING
    arguments: dict[str, Any] = field(default_factory=dict)
    either_sign: bool = False

    def __str__(self) -> str:
        return f"{self.method}-{self.peer}"


_SCORED = {"options": {"samples": SAMPLES}}

AGREEMENTS = (
    Pair("gradcam", GRAD_CAM, grad_cam("GradCAM"), ANY_SHAPE),
    Pair("gradcam", TORCHCAM, torch_cam("GradCAM"), ANY_SHAPE),
    Pair("gradcam", CAPTUM, captum_layer("LayerGradCam"), ANY_SHAPE),
    Pair("xgradcam", GRAD_CAM, grad_cam("XGradCAM"), ANY_SHAPE),
    Pair("xgradcam", TORCHCAM, torch_cam("XGradCAM"), ANY_SHAPE),
    Pair("layercam", GRAD_CAM, grad_cam("LayerCAM"), ANY_SHAPE),
    Pair("layercam", TORCHCAM, torch_cam("LayerCAM"), ANY_SHAPE),
    Pair("hirescam", GRAD_CAM, grad_cam("HiResCAM"), ANY_SHAPE),
    Pair("hirescam", CAPTUM, captum_layer("LayerGradientXActivation"), ANY_SHAPE),
    Pair("elementwise", GRAD_CAM, grad_cam("GradCAMElementWise"), ANY_SHAPE),
    Pair("elementwise", CAPTUM, captum_layer("LayerGradientXActivation", lambda a: a.relu().sum(1)), ANY_SHAPE),
    Pair("shapleycam", GRAD_CAM, grad_cam("ShapleyCAM")),
    Pair("finercam", TORCHCAM, torch_cam("FinerCAM"), ANY_SHAPE),
    Pair("cam", TORCHCAM, torch_cam("CAM"), (nets.pooled,), arguments={"signed": True, "normalize": "minmax"}),
    Pair("segeigencam", GRAD_CAM, grad_cam("SegEigenCAM"), ANY_SIZE, bound=1e-4),
    Pair("kpcacam", GRAD_CAM, grad_cam("KPCA_CAM"), IMAGE_SIZE, bound=1e-4, either_sign=True),
    Pair("scorecam", GRAD_CAM, grad_cam("ScoreCAM"), IMAGE_SIZE),
    Pair("scorecam", TORCHCAM, torch_cam("ScoreCAM"), IMAGE_SIZE),
    Pair(
        "sscam",
        TORCHCAM,
        torch_cam("SSCAM", num_samples=SAMPLES, noise=lambda image: noise_of_masks(image, SAMPLES)),
        IMAGE_SIZE,
        arguments={"options": {"samples": SAMPLES, "noise": 0.5}},
    ),
    Pair("ablationcam", CAPTUM, captum_ablation, ANY_SHAPE),
    Pair("saliency", CAPTUM, captum_image("Saliency", largest_magnitude), ANY_SHAPE),
    Pair("inputxgradient", CAPTUM, captum_image("InputXGradient", rectified_sum), ANY_SHAPE),
    Pair("smoothgrad", CAPTUM, partial(captum_smoothgrad, abs=False), ANY_SHAPE, arguments=_SCORED),
    Pair(
        "smoothgrad_sq",
        CAPTUM,
        partial(captum_smoothgrad, kind="smoothgrad_sq", abs=False),
        ANY_SHAPE,
        arguments=_SCORED,
    ),
    Pair("vargrad", CAPTUM, partial(captum_smoothgrad, kind="vargrad", abs=False), ANY_SHAPE, arguments=_SCORED),
    Pair("occlusion", CAPTUM, captum_occlusion, ANY_SHAPE, arguments={"options": {"window": 2, "stride": 1}}),
    Pair(
        "integrated_gradients",
        CAPTUM,
        captum_image("IntegratedGradients", rectified_sum, n_steps=32, method="riemann_middle"),
        ANY_SHAPE,
    ),
    Pair("guided_backprop", GRAD_CAM, grad_cam_guided, ANY_SIZE),
    Pair("guided_backprop", CAPTUM, captum_image("GuidedBackprop", largest_magnitude), ANY_SHAPE),
    Pair("guided_gradcam", CAPTUM, captum_layer("GuidedGradCam", largest_magnitude, interpolate_mode="bilinear")),
    Pair("fullgrad", GRAD_CAM, grad_cam("FullGrad"), (nets.plain, nets.normed), bound=1e-3),
)
