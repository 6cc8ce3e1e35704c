"""A program outside of this project finds the installed kit by CMake's find_package."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from kits import EXPORT, SUFFIXES, SUPPRESSIONS, Kit

SAMPLE = EXPORT / "cpp" / "sample"


@pytest.fixture(scope="session", params=list(SUFFIXES))
def sample(request: pytest.FixtureRequest, built, tmp_path_factory: pytest.TempPathFactory) -> tuple[Kit, Path]:
    """The kit and the program of the sample, which was built against the installed kit alone."""
    kit, folder = built(request.param), tmp_path_factory.mktemp("install")
    prefix, build = folder / "kit", folder / "build"
    subprocess.run(["cmake", "--install", kit.build, "--prefix", prefix], check=True)
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_CXX_FLAGS=-fsanitize=address,undefined"]
    subprocess.run(["cmake", "-S", SAMPLE, "-B", build, *options], check=True)
    subprocess.run(["cmake", "--build", build], check=True)
    return kit, build


def test_the_sample_explains_a_network_of_the_users(
    sample: tuple[Kit, Path], photos: list[Path], tmp_path: Path
) -> None:
    kit, build = sample
    artifact, overlay = tmp_path / f"cats-and-dogs{kit.suffix}", tmp_path / "overlay.png"
    environment = {**os.environ, "PYTHONPATH": str(EXPORT.parent), "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}"}
    subprocess.run([sys.executable, SAMPLE / "export.py", artifact], check=True, env=environment)
    done = subprocess.run(
        [build / "sample", artifact, photos[0], overlay], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    wanted = tmp_path / "wanted.png"
    answer = kit.explain(photos[0], artifact, "-o", wanted)
    name, probability = done.stdout.split()
    assert (name, float(probability)) == (answer["class_name"], pytest.approx(answer["probability"], rel=1e-4))
    assert overlay.read_bytes() == wanted.read_bytes()


def test_the_installed_program_and_package(sample: tuple[Kit, Path], photos: list[Path]) -> None:
    _, build = sample
    prefix = build.parent / "kit"
    help_text = subprocess.run(
        [prefix / "bin" / "explain", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert help_text.startswith("usage: explain PHOTO... ARTIFACT")
    version = (prefix / "lib" / "cmake" / "explainable" / "explainableConfigVersion.cmake").read_text()
    project = tomllib.loads((EXPORT.parent / "pyproject.toml").read_text())["project"]
    assert f'set(PACKAGE_VERSION "{project["version"]}")' in version
    assert (prefix / "include" / "explainable" / "explainer.hpp").exists()
    assert not list((prefix / "include" / "explainable").glob("*.cpp"))
