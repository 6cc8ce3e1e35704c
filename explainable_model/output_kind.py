"""The kinds of prediction: how the values of an output relate to the probabilities of its classes."""

from typing import Literal, TypeAlias, get_args

OutputKind: TypeAlias = Literal["logits", "softmax", "sigmoid", "sigmoid_logits", "binary", "binary_logits", "scores"]
"""How the network's output is to be read.

=================  =======================================  ======================================
kind               classes                                  probabilities
=================  =======================================  ======================================
``logits``         exactly one is present                   softmax of the output
``softmax``        exactly one is present                   the output itself
``sigmoid``        each is present or absent by itself      the output itself
``sigmoid_logits`` each is present or absent by itself      sigmoid of the output
``binary``         one, present or absent                   the output itself
``binary_logits``  one, present or absent                   sigmoid of the output
``scores``         anything                                 none: the values are no probabilities
=================  =======================================  ======================================
"""

OUTPUT_KINDS: tuple[OutputKind, ...] = get_args(OutputKind)
PROBABILITY_KINDS: tuple[OutputKind, ...] = ("softmax", "sigmoid", "binary")  # the values are probabilities already
