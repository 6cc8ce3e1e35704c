"""The kits' programs, built with the address and undefined behavior sanitizers."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kits import EXPORT, SUFFIXES, Kit


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Callable[[str], Kit]:
    """``built(name)``: the programs of a kit, built once."""

    @functools.cache
    def build(name: str) -> Kit:
        need("cmake", "g++")
        kept = os.environ.get("KITS_BUILD")  # a folder where only what has changed is built
        folder = Path(kept) / name if kept else tmp_path_factory.mktemp(f"build-{name}")
        options = [
            "-DSANITIZE=ON",
            "-DCMAKE_BUILD_TYPE=None",
            "-DCMAKE_CXX_FLAGS=-O1 -Werror",
            f"-DPython3_EXECUTABLE={sys.executable}",
        ]
        if name == "onnxruntime":
            options += find_headers(folder, need)
        subprocess.run(["cmake", "-S", EXPORT / name, "-B", folder, *options], check=True)
        subprocess.run(["cmake", "--build", folder, "--parallel", "2"], check=True)
        return Kit(name, folder)

    return build


@pytest.fixture(params=list(SUFFIXES))
def kit(request: pytest.FixtureRequest, built: Callable[[str], Kit]) -> Kit:
    return built(request.param)


@pytest.fixture
def quick_kit(built: Callable[[str], Kit]) -> Kit:
    """The kit that loads fastest, ONNX Runtime's, for tests of code that every kit shares."""
    return built("onnxruntime")


def find_headers(build: Path, need: Callable[..., None]) -> list[str]:
    """CMake's option for ONNX Runtime's headers: from the environment, from the system, or from ``headers.sh``."""
    named = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    if named:
        return [f"-DONNXRUNTIME_INCLUDE_DIR={named}"]
    if Path("/usr/include/onnxruntime/onnxruntime_cxx_api.h").exists():
        return []
    need("apt-get", "dpkg-deb")
    subprocess.run([EXPORT / "onnxruntime" / "headers.sh", build / "headers"], check=True)
    return [f"-DONNXRUNTIME_INCLUDE_DIR={build / 'headers/usr/include/onnxruntime'}"]


@pytest.fixture
def lite0(kit: Kit, artifact: Callable[[str, str], Path]) -> Path:
    return artifact(kit.name, kit.suffix)


@pytest.fixture
def lite0_onnx(artifact: Callable[[str, str], Path]) -> Path:
    return artifact("onnxruntime", ".onnx")
