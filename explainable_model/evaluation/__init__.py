"""Measures of maps: faithfulness, localization, stability, and what the map depends on."""

from explainable_model.evaluation.adapters import CaptumAttribution, explain_func, for_captum
from explainable_model.evaluation.comparison import Comparison, compare
from explainable_model.evaluation.completeness import convergence_gap
from explainable_model.evaluation.drise import Detected, drise
from explainable_model.evaluation.evaluate import evaluate
from explainable_model.evaluation.evaluation import Evaluation
from explainable_model.evaluation.measures import MEASURES
from explainable_model.evaluation.randomization import randomize_by_layer

__all__ = [
    "MEASURES",
    "CaptumAttribution",
    "Comparison",
    "Detected",
    "Evaluation",
    "compare",
    "convergence_gap",
    "drise",
    "evaluate",
    "explain_func",
    "for_captum",
    "randomize_by_layer",
]
