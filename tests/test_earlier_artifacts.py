"""Artifacts of an earlier version load and answer as they did; ``data/README.md`` says how they were made."""

from pathlib import Path

import numpy as np
import pytest

from explainable_model import load
from explainable_model.artifact.metadata import parse_metadata
from explainable_model.artifact.reference import check_reference
from explainable_model.exporters import format_of
from tests.support.cli_run import Run

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("suffix", [".onnx", ".ts", ".pt2"])
def test_an_earlier_artifact(suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = DATA / f"before{suffix}"
    answer = np.load(DATA / "before.npz")
    session = load(path)
    for class_idx in (None, answer["class_idx"]):
        got = session(answer["image"], class_idx)
        assert got.class_idx.tolist() == answer["class_idx"].tolist()
        assert np.abs(got.logits - answer["logits"]).max() < 1e-5
        assert np.abs(got.cam - answer["cam"]).max() < 1e-5
    assert answer["cam"].max() > 0.5
    assert (session.metadata.class_names, session.metadata.output_kind) == (["a", "b", "c"], None)
    assert check_reference(session.metadata, format_of(path).open(path, 1)[0]) == ""
    assert Run(capsys, "verify", path).code == 0


def test_the_record_of_an_agreement_reads_by_its_new_name() -> None:
    record = load(DATA / "before.onnx").metadata.to_json()
    text = record.replace('"agreement": null', '"agreement": {"classes": 1.0, "worst": 0.75}')
    assert text != record
    assert parse_metadata(text, Path("net.onnx")).agreement == {"classes": 1.0, "min_correlation": 0.75}
