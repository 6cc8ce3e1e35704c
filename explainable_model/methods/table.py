"""The rows of the table of methods: those that explain at a layer, or by the attention of every block."""

from typing import Any

from explainable_model.attribution.method import Method
from explainable_model.attribution.plan import (
    ATTENTION_KEYS,
    ATTENTION_LAYERS,
    ATTENTION_OUTPUTS,
    ATTENTION_QUERIES,
    ATTENTION_SCORES,
    ATTENTION_VALUES,
)
from explainable_model.methods import (
    attention_adapters,
    layer_adapters,
    masking_adapters,
)
from explainable_model.methods.dff import dff
from explainable_model.methods.eigen import eigencam, eigengradcam, kpcacam, segeigencam
from explainable_model.methods.elementwise import elementwise, hirescam, layercam
from explainable_model.methods.fem import fem
from explainable_model.methods.gradcam import gradcam
from explainable_model.methods.gradcam_plus_plus import gradcam_plus_plus
from explainable_model.methods.pure import FromActivations, FromGradients
from explainable_model.methods.xgradcam import xgradcam

TAIL_GRADIENT = "1 backward of the tail"
NOTHING = "nothing"
CHANNELS = "K (channels)"
POSITIONS = "h w (positions)"


def _of_attention(name: str, title: str, paper: str, explain: Any, passes: str, *taps: str, **more: Any) -> Method:
    """A row of a method that reads the attention of every block."""
    needs = {"needs_layer": False, "needs_graph": True, "needs_tokens": True}
    return Method(name, title, paper, explain, passes, side_taps=taps, **needs, **more)


LAYER_ROWS = (
    Method(
        "gradcam",
        "Grad-CAM",
        "Selvaraju et al. 2017, arXiv 1610.02391",
        FromGradients(gradcam, repeats_activations=False, averages_gradients=True),
        TAIL_GRADIENT,
        averages_gradients=True,
    ),
    Method(
        "gradcam++",
        "Grad-CAM++",
        "Chattopadhay et al. 2018, arXiv 1710.11063",
        FromGradients(gradcam_plus_plus),
        TAIL_GRADIENT,
    ),
    Method(
        "smoothgradcam++",
        "Smooth Grad-CAM++",
        "Omeiza et al. 2019, arXiv 1908.01224",
        layer_adapters.smoothgradcam_pp,
        "`samples` forwards, as many backwards of the tail",
        copies=True,
    ),
    Method("xgradcam", "XGrad-CAM", "Fu et al. 2020, arXiv 2008.02312", FromGradients(xgradcam), TAIL_GRADIENT),
    Method("layercam", "LayerCAM", "Jiang et al. 2021, IEEE TIP 9462463", FromGradients(layercam), TAIL_GRADIENT),
    Method(
        "hirescam",
        "HiResCAM",
        "Draelos and Carin 2020, arXiv 2011.08891",
        FromGradients(hirescam),
        TAIL_GRADIENT,
        adds_products=True,
    ),
    Method(
        "elementwise",
        "Grad-CAM element-wise",
        "Pillai and Pirsiavash 2021, AAAI",
        FromGradients(elementwise),
        TAIL_GRADIENT,
    ),
    Method(
        "eigengradcam",
        "Eigen-Grad-CAM",
        "after Muhammad and Yeasin 2020, arXiv 2008.00299",
        FromGradients(eigengradcam),
        TAIL_GRADIENT,
    ),
    Method(
        "segeigencam",
        "Seg-Eigen-CAM",
        "Chung and Ying 2025, doi 10.3390/app15137562",
        FromGradients(segeigencam),
        TAIL_GRADIENT,
    ),
    Method(
        "shapleycam",
        "ShapleyCAM",
        "Cai 2025, arXiv 2501.06261",
        layer_adapters.shapleycam,
        "2 backwards of the tail",
        needs_curvature=True,
        averages_gradients=True,
    ),
    Method(
        "finercam",
        "Finer-CAM",
        "Zhang et al. 2025, arXiv 2501.11309",
        layer_adapters.finercam,
        TAIL_GRADIENT,
        averages_gradients=True,
    ),
    Method("cam", "CAM", "Zhou et al. 2016, arXiv 1512.04150", layer_adapters.cam, "nothing (a row of the classifier)"),
    Method(
        "eigencam",
        "Eigen-CAM",
        "Muhammad and Yeasin 2020, arXiv 2008.00299",
        FromActivations(eigencam),
        NOTHING,
        class_specific=False,
    ),
    Method("fem", "FEM", "Fuad et al. 2020, IPTA", FromActivations(fem), NOTHING, class_specific=False),
    Method(
        "kpcacam",
        "KPCA-CAM",
        "Karmani et al. 2024, arXiv 2410.00267",
        FromActivations(kpcacam),
        NOTHING,
        class_specific=False,
    ),
    Method(
        "dff",
        "Deep feature factorization",
        "Collins et al. 2018, arXiv 1806.10206",
        FromActivations(dff),
        NOTHING,
        class_specific=False,
    ),
    Method(
        "scorecam",
        "Score-CAM",
        "Wang et al. 2020, arXiv 1910.01279",
        masking_adapters.scorecam,
        f"{CHANNELS} forwards",
        copies=True,
    ),
    Method(
        "iscam",
        "IS-CAM",
        "Naidu et al. 2020, arXiv 2010.03023",
        masking_adapters.iscam,
        f"{CHANNELS} (`samples` - 1) forwards",
        on_sheet=False,
        copies=True,
    ),
    Method(
        "sscam",
        "SS-CAM",
        "Wang et al. 2020, arXiv 2006.14255",
        masking_adapters.sscam,
        f"{CHANNELS} `samples` forwards",
        on_sheet=False,
        copies=True,
    ),
    Method(
        "ablationcam",
        "Ablation-CAM",
        "Desai and Ramaswamy 2020, WACV",
        masking_adapters.ablationcam,
        f"{CHANNELS} forwards of the tail",
        needs_graph=True,
        copies=True,
    ),
    Method(
        "reciprocam",
        "Recipro-CAM",
        "Byun and Lee 2022, arXiv 2209.14074",
        masking_adapters.reciprocam,
        f"{POSITIONS} forwards of the tail",
        needs_graph=True,
        copies=True,
    ),
    Method(
        "vitreciprocam",
        "ViT-ReciproCAM",
        "Byun and Lee 2023, arXiv 2310.02588",
        masking_adapters.vit_reciprocam,
        f"{POSITIONS} forwards of the tail",
        needs_graph=True,
        needs_tokens=True,
        copies=True,
    ),
    _of_attention(
        "legrad",
        "LeGrad",
        "Bousselham et al. 2025, arXiv 2404.03214",
        attention_adapters.legrad,
        "1 backward of each block and of a head on it",
        ATTENTION_LAYERS,
        scores_blocks=True,
    ),
    _of_attention(
        "rollout",
        "Attention rollout",
        "Abnar and Zuidema 2020, arXiv 2005.00928",
        attention_adapters.rollout,
        NOTHING,
        ATTENTION_LAYERS,
        class_specific=False,
    ),
    _of_attention(
        "chefer",
        "Relevance through attention",
        "Chefer et al. 2021, arXiv 2103.15679",
        attention_adapters.chefer,
        "1 backward of the blocks",
        ATTENTION_LAYERS,
    ),
    _of_attention(
        "agcam",
        "Attention-guided CAM",
        "Leem and Seo 2024, arXiv 2402.04563",
        attention_adapters.agcam,
        "1 backward of the blocks",
        ATTENTION_SCORES,
        ATTENTION_LAYERS,
    ),
    _of_attention(
        "gradeclip",
        "Grad-ECLIP",
        "Zhao et al. 2024, arXiv 2502.18816",
        attention_adapters.gradeclip,
        "1 backward of the last block",
        ATTENTION_QUERIES,
        ATTENTION_KEYS,
        ATTENTION_VALUES,
        ATTENTION_OUTPUTS,
    ),
)
