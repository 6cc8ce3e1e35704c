"""The C++ kit accepts the operators that the library accepts, and its letters are Python's."""

import torch

from explainable_model import LOWERINGS
from explainable_model.exporters.guard.operators import ATEN, is_allowed
from tests.support import letter_cases_header
from tests.support.operators_header import HEADER, render


def test_the_kits_table_is_the_librarys() -> None:
    assert HEADER.read_text() == render(), "run: python -m tests.support.operators_header"


def test_the_kits_letters_are_pythons() -> None:
    rendered = letter_cases_header.render()
    assert letter_cases_header.HEADER.read_text() == rendered, "run: python -m tests.support.letter_cases_header"


def test_every_operator_of_the_table_exists_and_reads_no_file() -> None:
    for name in ATEN:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            names = {argument.name for argument in getattr(packet, overload)._schema.arguments}
            assert not names & {"filename", "file", "storage", "source_storage"}, name


def test_every_operator_with_a_rule_may_be_called() -> None:
    missing = {str(op) for op in LOWERINGS if op.namespace == "aten" and not is_allowed(str(op).split(".")[1])}
    assert missing == set(), "add them to ATEN in exporters/guard/operators.py, if they read and write no files"


def test_operators_that_no_artifact_may_call() -> None:
    for name in ("from_file", "save", "set_", "resize_", "set_data", "as_strided_", "record_stream", "_unsafe_index"):
        assert not is_allowed(name)
