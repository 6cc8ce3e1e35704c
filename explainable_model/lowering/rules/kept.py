"""Values that the nodes of a file compute, which stand in for those of the network that PyTorch sees."""

from collections.abc import Mapping

from torch import Tensor
from torch._ops import OpOverload

from explainable_model.lowering.rules.call import Call, Gradients, Lowering
from explainable_model.networks.onnx.kept import AS_IN_FILE


def as_in_file(call: Call, grad: Tensor, self: Tensor, other: Tensor) -> Gradients:
    """explainable_model::as_in_file(Tensor self, Tensor other) -> Tensor"""
    return {"self": grad, "other": None}


TABLE: Mapping[OpOverload, Lowering] = {AS_IN_FILE: as_in_file}
