"""The report of a run, and the search for shortcuts in it."""

from explainable_model.report.coco import write_coco
from explainable_model.report.proportions import Difference, Proportion
from explainable_model.report.shortcuts import Cluster, find_shortcuts
from explainable_model.report.write_report import Report, write_report

__all__ = ["Cluster", "Difference", "Proportion", "Report", "find_shortcuts", "write_coco", "write_report"]
