"""The rows of the table of methods that explain at the image."""

from typing import Any

from explainable_model.attribution.method import Method
from explainable_model.attribution.plan import BIASES
from explainable_model.methods import image_adapters, perturbation_adapters

NETWORK_GRADIENT = "1 backward of the network"
COPIES_GRADIENT = "`samples` forwards and backwards of the network"


def _at_image(name: str, title: str, paper: str, explain: Any, passes: str, **more: Any) -> Method:
    """A row of a method that explains at the image itself."""
    return Method(name, title, paper, explain, passes, needs_layer=False, needs_image=True, **more)


IMAGE_ROWS = (
    _at_image(
        "saliency", "Saliency", "Simonyan et al. 2014, arXiv 1312.6034", image_adapters.saliency, NETWORK_GRADIENT
    ),
    _at_image(
        "inputxgradient",
        "Input x gradient",
        "Shrikumar et al. 2016, arXiv 1605.01713",
        image_adapters.inputxgradient,
        NETWORK_GRADIENT,
    ),
    _at_image(
        "smoothgrad",
        "SmoothGrad",
        "Smilkov et al. 2017, arXiv 1706.03825",
        image_adapters.smoothgrad,
        COPIES_GRADIENT,
        copies=True,
    ),
    _at_image(
        "smoothgrad_sq",
        "SmoothGrad-Squared",
        "Hooker et al. 2019, arXiv 1806.10758",
        image_adapters.smoothgrad_sq,
        COPIES_GRADIENT,
        copies=True,
    ),
    _at_image(
        "vargrad",
        "VarGrad",
        "Adebayo et al. 2018, arXiv 1810.03307",
        image_adapters.vargrad,
        COPIES_GRADIENT,
        copies=True,
    ),
    _at_image(
        "integrated_gradients",
        "Integrated gradients",
        "Sundararajan et al. 2017, arXiv 1703.01365",
        image_adapters.integrated_gradients,
        "`steps` forwards and backwards of the network",
        copies=True,
    ),
    _at_image(
        "expected_gradients",
        "Expected gradients",
        "Erion et al. 2021, arXiv 1906.10670",
        image_adapters.expected_gradients,
        COPIES_GRADIENT,
        copies=True,
    ),
    _at_image(
        "occlusion",
        "Occlusion",
        "Zeiler and Fergus 2014, arXiv 1311.2901",
        perturbation_adapters.occlusion,
        "a forward for each place of the window",
        copies=True,
    ),
    _at_image(
        "rise",
        "RISE",
        "Petsiuk et al. 2018, arXiv 1806.07421",
        perturbation_adapters.rise,
        "`samples` forwards",
        on_sheet=False,
        copies=True,
    ),
    _at_image(
        "guided_backprop",
        "Guided backpropagation",
        "Springenberg et al. 2015, arXiv 1412.6806",
        image_adapters.guided_backprop,
        NETWORK_GRADIENT,
        needs_graph=True,
    ),
    Method(
        "guided_gradcam",
        "Guided Grad-CAM",
        "Selvaraju et al. 2017, arXiv 1610.02391",
        image_adapters.guided_gradcam,
        "1 backward of the tail, 1 of the network",
        needs_image=True,
        needs_graph=True,
        averages_gradients=True,
    ),
    _at_image(
        "fullgrad",
        "FullGrad",
        "Srinivas and Fleuret 2019, arXiv 1905.00780",
        image_adapters.fullgrad,
        NETWORK_GRADIENT,
        needs_graph=True,
        side_taps=(BIASES,),
    ),
)
