"""What is shipped, and what its description says."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import explainable_model
from explainable_model.cli.kit_files import KITS, LEFT_OUT

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMUNITY = ("CHANGELOG.md", "CITATION.cff", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each file in the wheel, by name."""
    folder = tmp_path_factory.mktemp("wheel")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, str]) -> Message:
    """What a package index reads."""
    return Parser().parsestr(next(text for name, text in wheel.items() if name.endswith(".dist-info/METADATA")))


def test_every_public_name_is_there() -> None:
    for name in explainable_model.__all__:
        assert getattr(explainable_model, name) is not None
    assert dir(explainable_model) == sorted(explainable_model.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'explian'"):
        _ = explainable_model.explian


def test_the_wheel_holds_only_the_package(wheel: dict[str, str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"explainable_model"}
    assert "explainable_model/py.typed" in wheel
    assert "explainable_model/demo/detector.safetensors" in wheel
    kits = {name.split("/")[2] for name in wheel if name.startswith("explainable_model/kits/")}
    assert set(KITS) <= kits
    built = [name for name in wheel if any(Path(name).match(pattern) for pattern in LEFT_OUT)]
    assert [name for name in built if name.startswith("explainable_model/kits/")] == []


def test_the_wheel_holds_the_license(wheel: dict[str, str], metadata: Message) -> None:
    (name,) = (name for name in wheel if name.endswith(".dist-info/licenses/LICENSE"))
    assert wheel[name] == (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Author"] == "The explainable_model authors"


def test_the_metadata_has_the_links(metadata: Message) -> None:
    links = dict(link.split(", ") for link in metadata.get_all("Project-URL", []))
    assert set(links) == {"Homepage", "Documentation", "Source", "Issues", "Changelog"}
    assert all(link.startswith(links["Homepage"]) for link in links.values())


def test_the_readme_works_on_a_package_index(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = str(metadata.get_payload())
    assert text.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    links = re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text)
    assert pictures
    assert links
    raw = "https://raw.githubusercontent.com/explainable-model/explainable-model/main/"
    assert [picture for picture in pictures if not picture.startswith(raw)] == []
    assert [link for link in links if not link.startswith("https://")] == []


def test_the_source_distribution_holds_the_documents(tmp_path: Path) -> None:
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    documents = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}
    wanted = {"README.md", "pyproject.toml", "explainable_model/py.typed", "tests/test_packaging.py", *COMMUNITY}
    assert wanted | documents <= names


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms(path: Path) -> None:
    form: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert {"name", "url", "about"} == set(form["contact_links"][0])
        return
    assert {"name", "description", "body"} <= set(form)
    names = [field["id"] for field in form["body"]]
    assert len(names) == len(set(names))
    assert all(field["attributes"]["label"] for field in form["body"])


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    smaller = code.replace("resnet50(", "resnet18(").replace("224, 224", "64, 64")
    assert smaller != code
    done = subprocess.run([sys.executable, "-c", smaller], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "(1, 64, 64)\n"
    assert (tmp_path / "resnet50.onnx").stat().st_size > 40_000_000
