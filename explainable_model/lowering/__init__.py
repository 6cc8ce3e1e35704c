"""Lowering: from a network and a layer to a forward-only graph that predicts and explains."""

from explainable_model.lowering.lowered import LoweredModel
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.lowering.rules.call import Call, Gradients, Lowering

__all__ = ["LOWERINGS", "Call", "Gradients", "LoweredModel", "Lowering"]
