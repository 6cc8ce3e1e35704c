"""The report of a run, the search for shortcuts in it, and what other tools read of it."""

from explainable_model.report.boards import make_wandb_table, write_tensorboard
from explainable_model.report.coco import write_coco
from explainable_model.report.label_studio import make_label_config, write_label_studio
from explainable_model.report.pictures import ExplainedPhoto, iterate_pictures
from explainable_model.report.proportions import Difference, Proportion
from explainable_model.report.shortcuts import Cluster, find_shortcuts
from explainable_model.report.write_report import Report, write_report

__all__ = [
    "Cluster",
    "Difference",
    "ExplainedPhoto",
    "Proportion",
    "Report",
    "find_shortcuts",
    "iterate_pictures",
    "make_label_config",
    "make_wandb_table",
    "write_coco",
    "write_label_studio",
    "write_report",
    "write_tensorboard",
]
