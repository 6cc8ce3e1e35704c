"""``explain``: an output of each kind becomes the probabilities that the network predicts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from explainable_model import ExplainableModel, NamedModel, export, targets
from explainable_model.explainer.answers import describe_classes, label_class
from explainable_model.explainer.explainer import artifact_explainer, model_explainer
from explainable_model.explanation import Explanation
from tests.support import cli_nets
from tests.support.cli_run import NAMED, Run

# Kinds of output: (factory, output_kind, output of one photo -> probabilities)

KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda values: values.softmax(0),
    "softmax": lambda values: values,
    "sigmoid": lambda values: values,
    "binary": lambda values: values,
    "binary_logits": lambda values: values.sigmoid(),
    "sigmoid_logits": lambda values: values.sigmoid(),
}


@pytest.mark.parametrize("source", ["eager", "ts"])
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_those_that_the_network_predicts(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path, kind: str, source: str
) -> None:
    name = f"tests.support.cli_nets:{kind}"
    which: list[object] = ["--model", name]
    if source != "eager":
        which = ["--artifact", tmp_path / "net.ts"]
        assert Run(capsys, "export", "--model", name, "-o", which[1]).code == 0
    run = Run(capsys, "explain", photos[0], *which, "--out", tmp_path / "out", "--json")
    assert run.code == 0
    (record,) = run.record["photos"]
    with Image.open(photos[0]) as photo:
        output = getattr(cli_nets, kind)().model(torch.from_numpy(cli_nets.PREPROCESS(photo)))[0].detach()
    odds = KINDS[kind](output)
    best = int(odds.argmax())
    assert record["output_kind"] == kind
    assert record["class_idx"] == best
    assert record["score"] == pytest.approx(float(output[best]), rel=1e-4)
    assert record["probability"] == pytest.approx(float(odds[best]), rel=1e-4)
    assert [entry["probability"] for entry in record["top"]] == pytest.approx(
        odds.sort(descending=True).values[:5].tolist(), rel=1e-4
    )
    for entry in [record, *record["top"]]:
        assert entry.get("present") == (None if kind in ("logits", "softmax") else entry["probability"] >= 0.5)
    words = Run(capsys, "explain", photos[0], *which, "--out", tmp_path / "out", "--overwrite").out
    absent = "no " if "binary" in kind and odds[best] < 0.5 else ""
    assert f": {absent}{record['class_name']}, {float(odds[best]):.0%} ->" in words


def test_scores_have_no_percentage(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    arguments = ("explain", photos[0], "--model", "tests.support.cli_nets:scores", "--out", tmp_path, "--overwrite")
    (record,) = Run(capsys, *arguments, "--json").record["photos"]
    assert (record["output_kind"], record["probability"]) == ("scores", None)
    assert [entry["score"] for entry in record["top"]] == sorted((e["score"] for e in record["top"]), reverse=True)
    words = Run(capsys, *arguments).out
    assert f", score {record['score']:.3g} ->" in words
    assert "%" not in words


def test_one_number_has_no_percentage(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    """An age, a severity or a logit: nothing tells, and a percentage that nobody predicted would be wrong."""
    arguments = ("explain", photos[0], "--model", "tests.support.cli_nets:age", "--out", tmp_path, "--overwrite")
    (record,) = Run(capsys, *arguments, "--json").record["photos"]
    assert (record["output_kind"], record["probability"]) == ("scores", None)
    assert "present" not in record
    words = Run(capsys, *arguments).out
    assert f": age, score {record['score']:.3g} ->" in words
    assert "%" not in words
    refused = Run(capsys, *arguments, "--presence", "0.2")
    assert refused.code != 0
    assert "write output_kind='binary_logits'" in refused.err


@pytest.mark.parametrize("class_idx", [0, 1])
def test_both_sides_of_a_single_logit(class_idx: int, tmp_path: Path) -> None:
    model, image = cli_nets.binary_logits().model, torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = ExplainableModel(model, target=targets.Binary())
    names = ("healthy", "ill")
    export(explainable, tmp_path / "net.ts", image, preprocess=cli_nets.PREPROCESS, class_names=names)
    named = NamedModel(model, cli_nets.PREPROCESS, names)
    present = float(model(image).detach().sigmoid())
    wanted = (1 - present, present)[class_idx]
    for explainer in (artifact_explainer(tmp_path / "net.ts"), model_explainer(named, target=targets.Binary())):
        record = explainer.describe(explainer.run(image.numpy(), np.array([class_idx])))
        assert (record["class_name"], record["probability"]) == (names[class_idx], pytest.approx(wanted, rel=1e-4))
        assert [entry["class_name"] for entry in record["top"]] == (["ill", "healthy"] if present > 0.5 else [*names])
        assert label_class(record) == f"{names[class_idx]}, {wanted:.0%}"


def test_the_kind_of_output_is_an_option(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    arguments = (
        "explain",
        photos[0],
        "--out",
        tmp_path / "out",
        "--json",
        "--overwrite",
        "--output-kind",
        "sigmoid_logits",
    )
    (record,) = Run(capsys, *arguments, "--model", NAMED).record["photos"]
    assert record["probability"] == pytest.approx(1 / (1 + np.exp(-record["score"])))
    refused = Run(capsys, *arguments, "--artifact", tmp_path / "net.ts")
    assert (refused.code, "--output-kind belongs to --model" in refused.err) == (2, True)


def test_a_score_that_explains_two_classes_has_no_list_of_the_best() -> None:
    answer = Explanation(np.array([[60.0]]), np.array([1]), np.ones((1, 2, 2)))
    record = describe_classes(answer, ["young", "old"], "scores", 5, classes=2)
    assert (record["class_name"], record["score"], record["top"]) == ("old", 60.0, [])
    assert describe_classes(answer, None, "scores", 5, classes=1)["top"][0]["score"] == 60.0
