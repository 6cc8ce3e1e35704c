"""A kit's programs, as the tests run them."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

EXPORT = Path(__file__).parent.parent
SUPPRESSIONS = Path(__file__).parent / "leaks.txt"
SUFFIXES = {"libtorch": ".ts", "onnxruntime": ".onnx"}


@dataclass(frozen=True)
class Kit:
    name: str
    build: Path

    @property
    def suffix(self) -> str:
        return SUFFIXES[self.name]

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.build / program), *map(str, arguments)]
        environment = {**os.environ, "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert "Sanitizer" not in done.stderr, done.stderr
        assert "runtime error" not in done.stderr, done.stderr  # the undefined behavior sanitizer's words
        return done

    def explain(self, *arguments: object) -> dict:
        done = self.run("explain", *arguments, "--threads", 1, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    def check(self, *arguments: object) -> None:
        done = self.run("check", *arguments)
        assert (done.returncode, done.stderr) == (0, "")

    def refuses(self, *arguments: object) -> str:
        """The message with which the program ends."""
        done = self.run("explain", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        return done.stderr
