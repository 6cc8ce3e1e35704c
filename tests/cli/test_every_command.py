"""What every command of the command line shares."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from explainable_model.cli.console import Console
from explainable_model.errors import VerificationError
from tests.cli.test_cli import ROOT
from tests.support.cli_run import NAMED, Run
from tests.support.nets import TinyResNet, seeded


def test_random_weights_are_warned_of(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    drawn = Run(capsys, "layers", "--model", "torchvision:squeezenet1_1", "--size", "64x64", "--json")
    assert drawn.code == 0
    assert drawn.err.startswith("explainable-model: warning: torchvision:squeezenet1_1 has random weights")
    assert drawn.record["image"] == [1, 3, 64, 64]
    trained = tmp_path / "trained.pth"
    torch.save(seeded(TinyResNet(5), seed=3).state_dict(), trained)
    loaded = Run(capsys, "layers", "--model", NAMED, "--checkpoint", trained)
    assert (loaded.code, loaded.err) == (0, "a network may print\n")


def test_what_a_network_prints_is_not_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "layers", "--model", NAMED, "--json")
    assert "a network may print" in run.err
    assert "a network may print" not in run.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["explian"], "invalid choice: 'explian'"),
        (["explain", "--model", NAMED], "required: PHOTO, --out"),
        (["explain", "cat.png", "--out", "out"], "--model --artifact is required"),
        (["explain", "cat.png", "--model", NAMED, "--artifact", "net.ts", "--out", "out"], "not allowed with"),
        (["explain", "cat.png", "--artifact", "net.ts", "--layer", "layer2", "--out", "out"], "--layer belongs to"),
        (["explain", "cat.png", "--artifact", "no.ts", "--out", "out"], "There is no artifact"),
        (["explain", "cat.png", "--model", NAMED, "--out", "out", "--class", "dog"], "no class 'dog' among 5"),
        (["explain", "cat.png", "--model", NAMED, "--out", "out", "--class", "5"], "expected 0 to 4"),
        (["explain", "cat.png", "--model", NAMED, "--out", "out", "--colormap", "jett"], "for example jet"),
        (["explain", "cat.png", "--model", NAMED, "--out", "out", "--alpha", "2"], "alpha is 2.0"),
        (["demo", "--out", "taken"], "folder taken cannot be made"),
        (["explain", "cat.png", "--model", NAMED, "--out", "taken"], "folder taken cannot be made"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    run = Run(capsys, *arguments)
    assert run.code == 2
    assert run.out == ""
    said = run.err.replace("a network may print\n", "")
    assert said.startswith("explainable-model: error: ")
    assert message in said
    assert said.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]


def test_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(capsys, "layers", "--model", "tests.support.cli_nets:interrupted")
    assert (run.code, run.out, run.err) == (130, "", "explainable-model: error: interrupted.\n")


def test_failed_export_is_a_failed_verification(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def disagree(*args: object, **kwargs: object) -> None:
        raise VerificationError("the maps differ\nby 0.5")

    monkeypatch.setattr("explainable_model.exporters.pipeline.export", disagree)
    run = Run(capsys, "export", "--model", NAMED, "-o", tmp_path / "net.ts")
    assert run.code == 1
    assert run.err.endswith("explainable-model: error: the maps differ by 0.5\n")


@pytest.mark.parametrize("command", ["demo", "explain", "export", "verify", "inspect", "layers", "methods"])
def test_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    run = Run(capsys, command, "--help")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"usage: explainable-model {command}")
    assert "--json" in run.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", Run(capsys, "--version").out)


def test_a_reader_that_stops_early(artifacts: dict[str, Path]) -> None:
    done = subprocess.run(
        f'"{sys.executable}" -m explainable_model inspect --json "{artifacts["onnx"]}" | true',
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_progress_is_said_on_stderr_alone(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(progress=True)
    console.say("lowering")
    assert list(console.iterate([1, 2, 3], "explaining")) == [1, 2, 3]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(console.iterate([4, 5], "explaining")) == [4, 5]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("lowering ...\n")
    assert printed.err.endswith("explaining 1 of 2 ...\nexplaining 2 of 2 ...\n")
    quiet = Console(progress=False)
    quiet.say("lowering")
    assert list(quiet.iterate([1, 2, 3], "explaining")) == [1, 2, 3]
    assert capsys.readouterr().err == ""
