"""The help, the nearest names for wrong ones, colors, completion, and how fast all of it starts."""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from explainable_model import FORMATS, METHODS
from explainable_model.cli.commands import COMMANDS, build_parser
from explainable_model.cli.console import Console, paint
from tests.support.cli_run import NAMED, Run

ROOT = Path(__file__).parents[2]


def run_alone(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, as a shell would."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    run = Run(capsys, command, "--help")
    assert (run.code, run.err) == (0, "")
    assert run.out.startswith(f"usage: explainable-model {command}")
    examples = run.out.partition("examples:\n")[2].splitlines()
    assert examples
    for line in examples:
        assert line.startswith(f"  explainable-model {command}")
        build_parser().parse_args(line.split()[1:])
    assert ("--json" in run.out) == (command != "serve")
    assert max(len(line) for line in run.out.splitlines()) <= 120
    (children,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert [action.dest for action in children.choices[command]._actions if not action.help] == []


def test_the_help_names_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    suffixes = [suffix for fmt in FORMATS.values() for suffix in fmt.suffixes]
    for command in ("export", "verify", "inspect"):
        text = Run(capsys, command, "--help").out
        assert all(suffix in text for suffix in suffixes), command
    assert "examples:" in Run(capsys, "--help").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explian"], "Did you mean 'explain'?"),
        (["method"], "Did you mean 'methods'?"),
        (["explain", "a.png", "--model", NAMED, "--out", "out", "--metod", "cam"], "Did you mean '--method'"),
        (["explain", "a.png", "--model", NAMED, "--out", "out", "--over"], "Did you mean '--overwrite'?"),
        (["explain", "a.png", "--model", NAMED, "--out", "out", "--method", "gradcm"], "Did you mean 'gradcam'"),
        (["explain", "a.png", "--model", NAMED, "--out", "out", "--picture", "jpeg"], "Did you mean 'jpg'?"),
        (["export", "--model", NAMED, "-o", "a.ts", "--format", "torchscrip"], "Did you mean 'torchscript'?"),
        (["export", "--model", NAMED, "-o", "a.ts", "--output-kind", "logit"], "Did you mean 'logits'"),
        (["kit", "onnx-runtime"], "Did you mean 'onnxruntime'?"),
        (["layers", "--model", "tests.support.cli_nets:name"], "Did you mean 'named'"),
    ],
)
def test_the_nearest_name(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = Run(capsys, *arguments)
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert list(tmp_path.iterdir()) == []


def test_methods_as_people_write_them() -> None:
    for spelling in ("GradCAM", "Grad-CAM", "gradcam"):
        found = build_parser().parse_args(["export", "--model", "a:b", "-o", "a.ts", "--method", spelling])
        assert found.method == "gradcam"
    found = build_parser().parse_args(["explain", "a.png", "--model", "a:b", "--out", "out", "--method", "all"])
    assert found.method == "all"


STARTS = """
import sys
from explainable_model.cli.main import main
for arguments in (["methods"], ["formats"], ["kit"], ["--help"], ["explain", "--help"]):
    assert main(arguments) == 0
heavy = [name for name in ("torch", "torchvision", "timm", "onnx", "onnxruntime", "matplotlib") if name in sys.modules]
assert not heavy, heavy
"""


def test_lists_and_help_import_nothing_heavy() -> None:
    done = run_alone(STARTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "integrated_gradients" in done.stdout


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    words = Run(capsys, "formats").out
    record = Run(capsys, "formats", "--json").record["formats"]
    assert [row["format"] for row in record] == list(FORMATS)
    for row in record:
        fmt = FORMATS[row["format"]]
        assert (tuple(row["suffixes"]), row["machine_code"]) == (fmt.suffixes, fmt.machine_code)
        assert re.search(rf"^{fmt.name} +{re.escape(fmt.suffixes[0])}", words, re.MULTILINE)
    assert record[list(FORMATS).index("torchscript")]["installed"] is True


class Terminal:
    """A stream that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None: ...


def test_colors_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Console(progress=False).error("a mistake")
    assert capsys.readouterr().err == "explainable-model: error: a mistake\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    Console(progress=False).error("a mistake")
    assert terminal.text == "explainable-model: \x1b[31merror:\x1b[0m a mistake\n"
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert paint("a", "\x1b[1m", terminal) == "a"  # type: ignore[arg-type]


def complete(line: str) -> list[str]:
    """The words that bash is offered at the end of a line; argcomplete writes them to the file descriptor 8."""
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    done = subprocess.run(
        f"'{sys.executable}' -m explainable_model 8>&1 1>/dev/null 9>/dev/null",
        shell=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COMP_TYPE": "9", **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [word.strip() for word in done.stdout.split("\n") if word.strip()]


def test_a_shell_completes_words() -> None:
    pytest.importorskip("argcomplete")
    assert complete("explainable-model exp") == ["explain", "export"]
    assert "--skip-existing" in complete("explainable-model explain a.png --sk")
    assert complete("explainable-model explain --method layerc") == ["layercam"]
    assert set(complete("explainable-model export --method ")) == set(METHODS)
