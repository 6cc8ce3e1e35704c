"""Run a kit's programs in the tests."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EXPORT = Path(__file__).parent.parent
SUPPRESSIONS = Path(__file__).parent / "leaks.txt"
SUFFIXES = {"libtorch": ".ts", "onnxruntime": ".onnx"}


@dataclass(frozen=True)
class Kit:
    """The built programs of a kit.

    Attributes:
        name: the kit's folder.
        build: the folder of the programs.
    """

    name: str
    build: Path

    @property
    def suffix(self) -> str:
        """The suffix of the kit's artifacts."""
        return SUFFIXES[self.name]

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program, and fail where a sanitizer finds an error."""
        command = [str(self.build / program), *map(str, arguments)]
        environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr  # the undefined behavior sanitizer writes this
        return done

    def explain(self, *arguments: object) -> dict:
        """The JSON that ``explain`` prints."""
        done = self.run("explain", *arguments, "--threads", 1, "--jsonl")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def check(self, *arguments: object) -> None:
        """Run ``check``, which must find no error."""
        done = self.run("check", *arguments)
        assert (done.returncode, done.stderr) == (0, "")

    def refuses(self, *arguments: object, code: int = 2) -> str:
        """The message of ``explain``, which must end with an error; the code is 1 where the photo is to blame."""
        done = self.run("explain", *arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.startswith("error: ")
        return done.stderr


def compute_softmax(logits: Any) -> np.ndarray:
    """The probabilities of the first image's classes, in float64."""
    odds = np.exp(np.asarray(logits[0], np.float64) - np.max(logits[0]))
    return odds / odds.sum()
