"""The table of lowerings as a whole: every row is checked, speaks ATen's language and keeps to its dtype."""

import inspect
import re
from collections.abc import Callable
from itertools import groupby
from typing import Any

import pytest
import torch
from torch._ops import OpOverload

from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import LOWERINGS
from explainable_model.lowering.rules.call import Call, bind, gradient_for
from tests.lowering.rules import test_convolution as test_rules_convolution
from tests.lowering.rules import test_elementwise as test_rules_elementwise
from tests.lowering.rules import test_fourier as test_rules_fourier
from tests.lowering.rules import test_linear as test_rules_linear
from tests.lowering.rules import test_quantization as test_rules_quantization
from tests.lowering.rules import test_reduction as test_rules_reduction
from tests.lowering.rules import test_resampling as test_rules_resampling
from tests.lowering.rules import test_views as test_rules_rearranging
from tests.support.rule_checks import Example, Numbers, compare

aten = torch.ops.aten
normal = Numbers(7).normal
MODULES = (
    test_rules_convolution,
    test_rules_elementwise,
    test_rules_fourier,
    test_rules_linear,
    test_rules_quantization,
    test_rules_rearranging,
    test_rules_reduction,
    test_rules_resampling,
)
EXAMPLES: list[Example] = [row for module in MODULES for row in module.EXAMPLES]
OPERATORS = sorted(LOWERINGS, key=str)
# Half the digits of a type, and room for sums: ATen's own gradients accumulate in single precision.
LOW_PRECISION = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}


def _first_of_each_operator() -> list[Example]:
    rows = sorted(EXAMPLES, key=lambda row: str(row.op))
    return [next(group) for _, group in groupby(rows, key=lambda row: str(row.op))]


def _parameters(rule: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(rule).parameters)
    assert list(parameters)[:2] == ["call", "grad"]
    return {n: p for n, p in parameters.items() if n not in ("call", "grad") and p.kind is not p.VAR_KEYWORD}


def _argument_names(op: OpOverload) -> set[str]:
    return {argument.name for argument in op._schema.arguments}


def test_every_row_has_an_example() -> None:
    assert {row.op for row in EXAMPLES} == set(LOWERINGS)


def test_examples_are_told_apart() -> None:
    for module in MODULES:
        names = [str(row) for row in module.EXAMPLES]
        assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_a_rule_takes_arguments_of_its_operator(op: OpOverload) -> None:
    parameters = _parameters(LOWERINGS[op])
    required = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    assert required <= _argument_names(op)
    sharing = [other for other, rule in LOWERINGS.items() if rule is LOWERINGS[op]]
    assert set(parameters) <= set().union(*map(_argument_names, sharing))


@pytest.mark.parametrize("op", OPERATORS, ids=str)
def test_a_rule_names_its_operator(op: OpOverload) -> None:
    assert op._schema.name.removeprefix("aten::") in (LOWERINGS[op].__doc__ or "")


def _unsupported(op: OpOverload) -> dict[str, Any]:
    """For each argument with a default that the rule does not take: a value that is not the default."""
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(LOWERINGS[op]).parameters.values()):
        return {}
    values: dict[str, Any] = {}
    for argument in op._schema.arguments:
        if argument.has_default_value() and argument.name not in _parameters(LOWERINGS[op]):
            default = argument.default_value
            values[argument.name] = (not default) if isinstance(default, bool) else 7
    return values


UNSUPPORTED = [(op, name, value) for op in OPERATORS for name, value in _unsupported(op).items()]


@pytest.mark.parametrize(("op", "name", "value"), UNSUPPORTED, ids=lambda value: str(value))
def test_an_argument_that_a_rule_does_not_take_raises(op: OpOverload, name: str, value: Any) -> None:
    row = next(row for row in EXAMPLES if row.op is op)
    kwargs = {**row.kwargs, name: value}
    position = next(i for i, argument in enumerate(op._schema.arguments) if argument.name == name)
    with pytest.raises(LoweringError, match=f"with {name}={value!r}"):
        bind(LOWERINGS[op], op, row.args[:position], kwargs)


def test_some_arguments_are_not_supported() -> None:
    assert (aten.scaled_dot_product_attention.default, "dropout_p", 7) in UNSUPPORTED
    assert (aten.embedding.default, "scale_grad_by_freq", True) in UNSUPPORTED


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel:UserWarning")
@pytest.mark.parametrize("dtype", LOW_PRECISION, ids=lambda dtype: str(dtype).removeprefix("torch."))
@pytest.mark.parametrize("row", _first_of_each_operator(), ids=str)
def test_a_gradient_has_the_shape_and_dtype_of_its_argument(row: Example, dtype: torch.dtype) -> None:
    try:
        worst = compare(row, dtype)
    except RuntimeError as error:
        if not re.search("not implemented for|Half|BFloat16", str(error)):  # some forwards a CPU has in few dtypes
            raise
        pytest.skip(f"not implemented for {dtype}: {str(error).splitlines()[0]}")
    assert worst < LOW_PRECISION[dtype]


@pytest.mark.parametrize(
    ("op", "settings"), [(aten.dropout.default, (0.5, True)), (aten.rrelu.default, (0.1, 0.3, True))], ids=str
)
def test_what_is_random_in_training_mode_has_no_lowering(op: OpOverload, settings: tuple[Any, ...]) -> None:
    with pytest.raises(LoweringError, match="training mode"):
        LOWERINGS[op](Call(op, normal(2, 3), frozenset()), normal(2, 3), normal(2, 3), *settings)


def test_a_gradient_that_a_rule_does_not_give_raises() -> None:
    call = Call(aten.batch_norm.default, normal(2, 3), frozenset({"running_mean"}))
    with pytest.raises(LoweringError, match=r"'running_mean' depends on the target layer.*input, weight"):
        gradient_for(call, {"input": normal(2, 3), "weight": None}, "running_mean", normal(3))


def test_the_gradient_of_one_tensor_of_a_list() -> None:
    call = Call(aten.cat.default, normal(4, 3), frozenset({"tensors", "tensors[1]"}))
    part = normal(2, 3)
    assert gradient_for(call, {"tensors": [None, part]}, "tensors[1]", part) is part
    assert gradient_for(call, {"tensors": [None, part]}, "tensors[0]", part) is None
