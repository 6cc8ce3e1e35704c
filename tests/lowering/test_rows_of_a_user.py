"""Rows that a user gives to lower(lowerings=)."""

from functools import partial
from unittest.mock import patch

import pytest
from torch._ops import OpOverload

from explainable_model import ExplainableModel, lower
from explainable_model.errors import LoweringError
from explainable_model.lowering.rules import FAMILIES
from explainable_model.lowering.rules.missing import missing_lowering, rules_file
from tests.lowering.test_lowering import assert_same, aten
from tests.support.nets import TinyResNet, images, seeded


def _relu(call, grad, self):  # type: ignore[no-untyped-def]
    return {"self": grad * (call.output > 0)}


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([_relu], TypeError, r"lowerings is list; expected \{operator overload: rule\}"),
        ({"relu": _relu}, TypeError, r"the key 'relu'; expected an operator overload, such as torch\.ops\.aten\.relu"),
        ({aten.add: _relu}, TypeError, r"packet aten\.add.*: torch\.ops\.aten\.add\.Tensor, torch\.ops\.aten\.add\.Sc"),
        ({aten.relu.default: 1}, TypeError, r"lowerings\[aten\.relu\.default\] is int; expected a function: def rule"),
        (
            {aten.relu.default: lambda grad, self: {"self": grad}},
            LoweringError,
            r"begins with the parameters \(grad, self\); expected call and grad\. Write def rule\(call, grad, self\)",
        ),
        ({aten.relu.default: lambda call: {}}, LoweringError, r"begins with the parameters \(call\)"),
        (
            {aten.mul.Tensor: lambda call, grad, self: {"self": grad}},
            LoweringError,
            r"aten\.mul\.Tensor does not take the required argument other\. Write def rule\(call, grad, self, other\)",
        ),
        (
            {aten.relu.default: lambda call, grad, self, slope: {"self": grad}},
            LoweringError,
            r"asks for slope, which the operator does not take",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_refused_before_the_trace(rows, error, message) -> None:  # type: ignore[no-untyped-def]
    explainable = ExplainableModel(seeded(TinyResNet()), "layer1")
    with (
        patch("explainable_model.lowering.pipeline.capture", side_effect=AssertionError("traced")),
        pytest.raises(error, match=message),
    ):
        lower(explainable, images(2), lowerings=rows)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            lambda call, grad, self: grad,
            r"In layer '.+': The rule for aten\.relu\.default returned a tensor; .*Write return \{'self': gradient\}",
        ),
        (lambda call, grad, self: {"input": grad}, r"its lowering differentiates with respect to input only"),
        (lambda call, grad, self: {"self": grad.sum(1)}, r"returned a gradient of shape .* for 'self', whose shape is"),
    ],
)
def test_a_row_that_returns_something_else_is_refused(rule, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LoweringError, match=message):
        lower(ExplainableModel(seeded(TinyResNet()), "layer1"), images(2), lowerings={aten.relu.default: rule})


@pytest.mark.parametrize(
    "rule",
    [
        lambda call, grad, self: {"self": grad * (call.output > 0)},
        lambda _, gradient, *, self: {"self": gradient * (self > 0)},
        lambda *given, **arguments: _relu(*given, **arguments),
        partial(lambda call, grad, self, limit: {"self": grad * (self > limit)}, limit=0),
    ],
)
def test_a_row_may_be_any_function_of_the_arguments(rule) -> None:  # type: ignore[no-untyped-def]
    explainable = ExplainableModel(seeded(TinyResNet()).double(), "layer1")
    lowered = lower(explainable, images(2).double(), lowerings={aten.relu.default: rule})
    assert_same(lowered, explainable, images(2, seed=4).double())


@pytest.mark.parametrize(
    ("op", "file"),
    [
        (aten.erfinv.default, "unary"),
        (aten.hardshrink.default, "activation"),
        (aten.logaddexp2.default, "reduction"),
        (aten.conv_tbc.default, "convolution"),
        (aten.fractional_max_pool2d.default, "pooling"),
        (aten.rot90.default, "views"),
        (aten.special_erfcx.default, "unary"),
    ],
)
def test_the_error_names_the_file_of_the_neighbors(op: OpOverload, file: str) -> None:
    error = missing_lowering({op: "layer3"})
    assert f"Cannot lower {op} (from layer3)" in str(error)
    assert str(error).endswith(f"add a row to TABLE in lowering/rules/{file}.py, where the neighbors are.")


def test_every_operator_of_the_table_would_be_sent_to_its_own_file() -> None:
    for family in FAMILIES:
        for op in family.TABLE:
            others = [other.__name__ for other in FAMILIES if any(_name(op) == _name(row) for row in other.TABLE)]
            assert f"explainable_model.{rules_file(op)[:-3].replace('/', '.')}" in others


def _name(op: OpOverload) -> str:
    return op._schema.name.partition("::")[2].strip("_")
