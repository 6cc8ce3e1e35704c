"""The activation that a network may end in: the score is the logit under it.

The operators are named as in ATen, without a leading underscore. Autograd's nodes have names made of these.
"""

FINAL_ACTIVATIONS = frozenset({"sigmoid", "softmax", "log_softmax", "log_sigmoid"})
"""At a saturated prediction their own gradient rounds to zero."""

REARRANGEMENTS = frozenset(
    {
        "alias", "as_in_file", "clone", "contiguous", "dropout", "flatten", "permute", "reshape", "reshape_alias",
        "squeeze", "t", "to", "to_copy", "transpose", "unflatten", "unsafe_view", "unsqueeze", "view",
    }
)  # fmt: skip
"""They may stand between the final activation and the output, for they only rearrange or copy."""


def backward_node(operator: str) -> str:
    """The name that autograd gives to an operator's node, without its number: ``SoftmaxBackward``."""
    return "".join(part.capitalize() for part in operator.split("_")) + "Backward"
