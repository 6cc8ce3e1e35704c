"""The command line's methods: every option that shapes an explanation, the sheet of all methods, and their table."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model import METHODS, ExplainableModel, read_metadata
from explainable_model.cli.method_options import parse_method_options
from explainable_model.cli.methods import HEAD, TABLE, add_formats, to_markdown
from explainable_model.imaging.overlay import UNSEEN, overlay
from tests.support import cli_nets
from tests.support.cli_run import NAMED, Run
from tests.support.method_table import make_rows, render
from tests.support.nets import QUICK_FORMATS, TinyResNet, seeded

ROOT = Path(__file__).parents[2]


def test_options_reach_the_network(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    options = [
        "--layer",
        "layer1",
        "--layer",
        "layer2",
        "--fusion",
        "max",
        "--map-size",
        "8x12",
        "--upsample",
        "nearest",
    ]
    options += ["--augment", "--method", "smoothgradcam++", "--option", "samples=2", "--option", "noise=0.3"]
    options += ["--smooth", "2,0.1"]
    run = Run(capsys, "explain", photos[0], "--model", NAMED, "--out", tmp_path, "--json", "--alpha", "1", *options)
    assert run.code == 0, run.err
    explainable = ExplainableModel(
        seeded(TinyResNet(5)),
        ["layer1", "layer2"],
        "smoothgradcam++",
        fusion="max",
        size=(8, 12),
        upsample="nearest",
        augment=True,
        smooth=(2, 0.1),
        options={"samples": 2, "noise": 0.3},
    )
    with Image.open(photos[0]) as photo, Image.open(tmp_path / "cat-overlay.png") as written:
        cam = explainable(torch.from_numpy(cli_nets.PREPROCESS(photo))).cam[0].numpy()
        wanted = overlay(photo, cam, alpha=1.0, box=cli_nets.PREPROCESS.box(*photo.size))
        assert cam.shape == (8, 12)
        assert np.abs(np.asarray(written).astype(int) - np.asarray(wanted).astype(int)).max() <= 2


def test_several_classes_from_the_artifact_and_the_network(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "three.onnx"
    exported = Run(capsys, "export", "--model", NAMED, "-o", target, "--top-k", "3", "--signed", "--json")
    assert exported.code == 0, exported.err
    metadata = read_metadata(target)
    assert (metadata.top_k, metadata.signed, metadata.normalize) == (3, True, "max")
    found = []
    for which in (["--artifact", target], ["--model", NAMED, "--top-k", "3", "--signed", "--upsample", "bilinear"]):
        run = Run(capsys, "explain", photos[0], *which, "--out", tmp_path / str(len(found)), "--json")
        assert run.code == 0, run.err
        found.append(run.record["photos"][0])
    for one in found:
        assert [each["class_idx"] for each in one["explained"]] == [best["class_idx"] for best in one["top"][:3]]
    pictures = [np.asarray(Image.open(one["panel"])).astype(int) for one in found]
    assert np.abs(pictures[0] - pictures[1]).max() <= 2
    for which in (["--artifact", target], ["--model", NAMED, "--top-k", "3"]):
        run = Run(capsys, "explain", photos[0], *which, "--class", "1", "--out", tmp_path, "--json", "--overwrite")
        (asked,) = run.record["photos"]
        classes = [1, *(best["class_idx"] for best in asked["top"][1:3])]
        assert [each["class_idx"] for each in asked["explained"]] == classes, "the one that is asked for comes first"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "smoothgrad", "--option", "samples=many"], "samples is 'many'; expected a whole number"),
        (["--method", "smoothgrad", "--option", "steps=3"], "has no option 'steps'; its options are: samples=16"),
        (["--method", "reciprocam", "--option", "gaussian=2"], "gaussian is '2'; expected true or false"),
        (["--option", "samples"], "expected NAME=VALUE"),
        (["--method", "all", "--top-k", "2"], "leave out --option, --top-k"),
        (["--normalize", "l2"], "normalize is 'l2'; expected one of minmax"),
        (["--upsample", "cubic"], "upsample is 'cubic'"),
        (["--fusion", "sum"], "Unknown fusion 'sum'; known fusions: mean"),
        (["--map-size", "7"], "'7' is not a size"),
        (["--threshold", "2"], "threshold is 2.0; expected 0"),
        (["--top-k", "0"], "top_k is 0"),
        (["--chunk-size", "0"], "chunk_size is 0"),
    ],
)
def test_mistakes(
    capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path, arguments: list[str], message: str
) -> None:
    run = Run(capsys, "explain", photos[0], "--model", NAMED, "--out", tmp_path, *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err


def test_option_types() -> None:
    assert parse_method_options("integrated_gradients", [("steps", "8"), ("baseline", "0.5")]) == {
        "steps": 8,
        "baseline": 0.5,
    }
    assert parse_method_options("reciprocam", [("gaussian", "True")]) == {"gaussian": True}


def test_hiding_below_a_threshold() -> None:
    photo = Image.new("RGB", (4, 1), (10, 20, 30))
    cam = np.array([[0.0, 0.4, 0.6, 1.0]], np.float32)
    plain = np.asarray(overlay(photo, cam))
    heat = np.asarray(overlay(photo, cam, threshold=0.5))
    assert (heat[0, :2] == (10, 20, 30)).all()
    assert (heat[0, 2:] == plain[0, 2:]).all()
    hidden = np.asarray(overlay(photo, cam, threshold=0.5, hide="photo"))
    assert (hidden[0, :2] == UNSEEN).all()
    assert (hidden[0, 2:] == plain[0, 2:]).all()
    signed = np.array([[-3.0, -0.3, 0.3, 3.0]])
    both = np.asarray(overlay(photo, signed, threshold=0.5, signed=True))
    assert (both[0, 1:3] == (10, 20, 30)).all(), "weak in either direction"
    assert (both[0, [0, 3]] != (10, 20, 30)).any(1).all()


def test_sheet_of_all_methods(capsys: pytest.CaptureFixture[str], photos: list[Path], tmp_path: Path) -> None:
    run = Run(capsys, "explain", photos[0], "--model", NAMED, "--method", "all", "--out", tmp_path, "--json")
    assert run.code == 0, run.err
    (found,) = run.record["photos"]
    unfit = {failure["method"]: failure["error"] for failure in found["failures"]}
    assert set(unfit) == {name for name, method in METHODS.items() if method.needs_tokens}
    assert "needs tokens" in unfit["vitreciprocam"]
    assert run.err.count("does not fit this network") == len(unfit)
    assert [row["method"] for row in found["methods"]] == [
        name for name, method in METHODS.items() if method.on_sheet and name not in unfit
    ]
    assert all(row["seconds"] > 0 for row in found["methods"])
    with Image.open(found["sheet"]) as sheet:
        assert sheet.width > 6 * 224
        assert np.asarray(sheet).std() > 10


def test_what_was_not_measured_says_so() -> None:
    table = to_markdown(add_formats(make_rows({"gradcam": {"cost": 1.25}})))
    rows = table.splitlines()
    assert rows[0] == f"| {' | '.join(HEAD)} |"
    assert rows[2].endswith(f"| 1.2 |  | {', '.join(fmt.name for fmt in QUICK_FORMATS)} |")
    assert rows[3].count("not measured") == 1


def test_the_table_of_the_command_line_is_that_of_the_methods() -> None:
    assert TABLE.read_text(encoding="utf-8") == render(), "run: python -m tests.support.method_table"


def test_the_page_of_methods_has_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "methods", "--markdown")
    assert run.code == 0
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- methods -->\n\n(.*?)\n\n<!-- /methods -->", page, re.DOTALL)
    assert found is not None
    assert found[1] + "\n" == run.out, "run: explainable-model methods --markdown"
    record = Run(capsys, "methods", "--json").record["methods"]
    assert [row["method"] for row in record] == list(METHODS)
    assert json.dumps(record[0]["options"]) == "{}"
