"""The nodes of a ``.pt2`` graph that compute sizes, which run as Python: on numbers of any length, and on lists.

A number that is multiplied by itself forty times, or a list that is repeated, would fill the memory.
"""

from typing import Any

from explainable_model.exporters.guard.operators import SIZES
from explainable_model.exporters.guard.refusal import Refusal, shorten

MAX_NODES, MAX_FACTORS = 10_000, 16
NUMBERS = {"as_int", "as_float", "as_bool", "as_sym_int", "as_sym_float", "as_sym_bool"}
LISTS = {"_operator.getitem": "as_tensors", "torch.sym_sum": "as_sym_ints"}
"""What the functions of lists read besides numbers."""


def check_size_nodes(nodes: list[dict[str, Any]]) -> None:
    """Check that each function on sizes reads numbers, and that their products have few factors.

    Args:
        nodes: of the graph, in the order in which they run.

    Raises:
        Refusal: one reads something else, or there are too many functions or factors.
    """
    factors: dict[str, int] = {}
    computing = [node for node in nodes if node["target"] in SIZES]
    if len(computing) > MAX_NODES:
        raise Refusal(f"its graph computes sizes in more than {MAX_NODES} steps")
    for node in computing:
        counts = [_count_factors(item["arg"], node["target"], factors) for item in node["inputs"]]
        count = sum(counts) if node["target"] == "_operator.mul" else max(counts, default=0)
        if count > MAX_FACTORS:
            raise Refusal(f"its graph multiplies more than {MAX_FACTORS} sizes")
        for output in node["outputs"]:
            for value in output.values():
                if isinstance(value, dict) and "as_name" in value:
                    factors[value["as_name"]] = count


def _count_factors(argument: dict[str, Any], target: str, factors: dict[str, int]) -> int:
    [(kind, value)] = argument.items()
    if kind not in NUMBERS and kind != LISTS.get(target):
        raise Refusal(f"its graph calls {shorten(target)} of {shorten(kind)}, which is no number")
    items = value if isinstance(value, list) else [value]
    return max([1, *(factors.get(str(item.get("as_name")), 1) for item in items if isinstance(item, dict))])
