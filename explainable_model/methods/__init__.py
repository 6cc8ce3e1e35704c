"""The CAM methods: one function each, and the table of them."""

from collections.abc import Mapping
from typing import Any

from explainable_model.attribution.method import Method
from explainable_model.methods import passes
from explainable_model.methods.eigen import eigencam, eigengradcam, kpcacam
from explainable_model.methods.elementwise import elementwise, hirescam, layercam
from explainable_model.methods.fem import fem
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.gradcam_plus_plus import gradcam_plus_plus
from explainable_model.methods.method import Activations, CamMethod, Gradients, from_activations, from_gradients
from explainable_model.methods.xgradcam import xgradcam

__all__ = ["METHODS", "Activations", "CamMethod", "Gradients", "Method", "check_options", "find_method", "gradcam"]

TAIL_GRADIENT = "1 backward of the tail"
NOTHING = "nothing"
NETWORK_GRADIENT = "1 backward of the network"
CHANNELS = "K (channels)"
POSITIONS = "h w (positions)"


def _at_image(title: str, paper: str, explain: Any, passes: str, **more: Any) -> Method:
    """A row of a method that explains at the image itself."""
    return Method(title, paper, explain, passes, needs_layer=False, needs_image=True, **more)


METHODS: Mapping[str, Method] = {
    "gradcam": Method(
        "Grad-CAM", "Selvaraju et al. 2017, arXiv 1610.02391", from_gradients(gradcam, copies=False), TAIL_GRADIENT
    ),
    "gradcam++": Method(
        "Grad-CAM++", "Chattopadhay et al. 2018, arXiv 1710.11063", from_gradients(gradcam_plus_plus), TAIL_GRADIENT
    ),
    "smoothgradcam++": Method(
        "Smooth Grad-CAM++",
        "Omeiza et al. 2019, arXiv 1908.01224",
        passes.smoothgradcam_pp,
        "`samples` forwards, as many backwards of the tail",
    ),
    "xgradcam": Method("XGrad-CAM", "Fu et al. 2020, arXiv 2008.02312", from_gradients(xgradcam), TAIL_GRADIENT),
    "layercam": Method("LayerCAM", "Jiang et al. 2021, IEEE TIP 9462463", from_gradients(layercam), TAIL_GRADIENT),
    "hirescam": Method("HiResCAM", "Draelos and Carin 2020, arXiv 2011.08891", from_gradients(hirescam), TAIL_GRADIENT),
    "elementwise": Method(
        "Grad-CAM element-wise", "Pillai and Pirsiavash 2021, AAAI", from_gradients(elementwise), TAIL_GRADIENT
    ),
    "eigengradcam": Method(
        "Eigen-Grad-CAM",
        "after Muhammad and Yeasin 2020, arXiv 2008.00299",
        from_gradients(eigengradcam),
        TAIL_GRADIENT,
    ),
    "shapleycam": Method(
        "ShapleyCAM", "Cai 2025, arXiv 2501.06261", passes.shapleycam, "2 backwards of the tail", needs_curvature=True
    ),
    "finercam": Method("Finer-CAM", "Zhang et al. 2025, arXiv 2501.11309", passes.finercam, TAIL_GRADIENT),
    "cam": Method("CAM", "Zhou et al. 2016, arXiv 1512.04150", passes.cam, "nothing (a row of the classifier)"),
    "eigencam": Method("Eigen-CAM", "Muhammad and Yeasin 2020, arXiv 2008.00299", from_activations(eigencam), NOTHING),
    "fem": Method("FEM", "Fuad et al. 2020, IPTA", from_activations(fem), NOTHING),
    "kpcacam": Method("KPCA-CAM", "Karmani et al. 2024, arXiv 2410.00267", from_activations(kpcacam), NOTHING),
    "scorecam": Method("Score-CAM", "Wang et al. 2020, arXiv 1910.01279", passes.scorecam, f"{CHANNELS} forwards"),
    "ablationcam": Method(
        "Ablation-CAM",
        "Desai and Ramaswamy 2020, WACV",
        passes.ablationcam,
        f"{CHANNELS} forwards of the tail",
        needs_graph=True,
    ),
    "reciprocam": Method(
        "Recipro-CAM",
        "Byun and Lee 2022, arXiv 2209.14074",
        passes.reciprocam,
        f"{POSITIONS} forwards of the tail",
        needs_graph=True,
    ),
    "vitreciprocam": Method(
        "ViT-ReciproCAM",
        "Byun and Lee 2023, arXiv 2310.02588",
        passes.vit_reciprocam,
        f"{POSITIONS} forwards of the tail",
        needs_graph=True,
    ),
    "legrad": Method(
        "LeGrad",
        "Bousselham et al. 2025, arXiv 2404.03214",
        passes.legrad,
        "1 backward as far as the first attention",
        needs_layer=False,
        needs_graph=True,
        side_taps=passes.attention_layers,
    ),
    "rollout": Method(
        "Attention rollout",
        "Abnar and Zuidema 2020, arXiv 2005.00928",
        passes.rollout,
        NOTHING,
        needs_layer=False,
        needs_graph=True,
        side_taps=passes.attention_layers,
    ),
    "saliency": _at_image("Saliency", "Simonyan et al. 2014, arXiv 1312.6034", passes.saliency, NETWORK_GRADIENT),
    "inputxgradient": _at_image(
        "Input x gradient", "Shrikumar et al. 2016, arXiv 1605.01713", passes.inputxgradient, NETWORK_GRADIENT
    ),
    "smoothgrad": _at_image(
        "SmoothGrad",
        "Smilkov et al. 2017, arXiv 1706.03825",
        passes.smoothgrad,
        "`samples` forwards and backwards of the network",
    ),
    "integrated_gradients": _at_image(
        "Integrated gradients",
        "Sundararajan et al. 2017, arXiv 1703.01365",
        passes.integrated_gradients,
        "`steps` forwards and backwards of the network",
    ),
    "guided_backprop": _at_image(
        "Guided backpropagation",
        "Springenberg et al. 2015, arXiv 1412.6806",
        passes.guided_backprop,
        NETWORK_GRADIENT,
        needs_graph=True,
    ),
    "guided_gradcam": Method(
        "Guided Grad-CAM",
        "Selvaraju et al. 2017, arXiv 1610.02391",
        passes.guided_gradcam,
        "1 backward of the tail, 1 of the network",
        needs_image=True,
        needs_graph=True,
    ),
    "fullgrad": _at_image(
        "FullGrad",
        "Srinivas and Fleuret 2019, arXiv 1905.00780",
        passes.fullgrad,
        NETWORK_GRADIENT,
        side_taps=passes.bias_layers,
    ),
}
"""Name -> method."""


def find_method(name: str) -> Method:
    """The method of that name.

    Raises:
        ValueError: no such method; the known ones are listed.
    """
    if name not in METHODS:
        raise ValueError(f"Unknown method {name!r}; known methods: {', '.join(METHODS)}.")
    return METHODS[name]


def check_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as a dictionary, where the method has all of them.

    Raises:
        ValueError: no such option; the method's own are listed.
    """
    known = METHODS[name].options
    unknown = [option for option in options if option not in known]
    if unknown:
        own = ", ".join(f"{option}={default!r}" for option, default in known.items()) or "none"
        raise ValueError(f"Method {name!r} has no option {unknown[0]!r}; its options are: {own}.")
    return dict(options)
