"""Put the factors of a product in the memory order in which PyTorch computes it fast."""

import torch
from torch import fx
from torch._prims_common import is_contiguous_or_false

from explainable_model.lowering.graph import value_of

aten = torch.ops.aten
PRODUCTS = (aten.linear.default, aten.matmul.default)


def copy_transposed_factors(graph: fx.Graph) -> None:
    """Copy the rows of each product with a matrix into contiguous memory.

    PyTorch multiplies transposed rows ``(M, N, features)`` by an ``(out, features)`` weight without a gradient as M
    separate products. Contiguous rows are one product, which is several times faster. ``nn.MultiheadAttention``
    transposes rows in this way where the batch comes first.
    """
    for node in list(graph.nodes):
        if node.target in PRODUCTS and len(node.args) > 1:
            rows, matrix = (value_of(argument) for argument in node.args[:2])
            if rows is None or matrix is None or rows.ndim < 3 or matrix.ndim != 2 or is_contiguous_or_false(rows):
                continue
            with graph.inserting_before(node):
                copied = graph.call_function(aten.contiguous.default, (node.args[0],))
            copied.meta = {**node.args[0].meta, "val": rows.contiguous()}
            node.update_arg(0, copied)
