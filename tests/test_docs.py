"""The pages: every link leads somewhere, every command parses, and every example runs."""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from explainable_model.cli.commands import build_parser

ROOT = Path(__file__).parent.parent
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "benchmarks/**/*.md",
    "examples/**/*.md",
    "explainable_model/**/*.md",
    "export/*/*.md",
    ".github/*.md",
)
PAGES = sorted({page for pattern in PATTERNS for page in ROOT.glob(pattern)})
HOSTS = ("github.com", "blob/main"), ("github.com", "tree/main"), ("raw.githubusercontent.com", "main")
OWN = tuple(f"https://{host}/explainable-model/explainable-model/{branch}/" for host, branch in HOSTS)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^]]*\]\(([^)\s]+)\)|^\[[^]]+\]: (\S+)", re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def links_of(page: Path) -> list[str]:
    """Targets of the links and pictures outside of code."""
    prose = re.sub(r"`[^`\n]*`", "", FENCE.sub("", text_of(page)))
    return [first or second for first, second in LINK.findall(prose)]


@cache
def anchors_of(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub("", text_of(page))):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        copies = (f"{slug}-{n}" for n in range(1, len(found) + 2))
        found.add(slug if slug not in found else next(copy for copy in copies if copy not in found))
    return found


def broken_link(page: Path, link: str) -> str | None:
    """What is wrong with a link; ``None`` where nothing is, or where it leads out of the project."""
    own = next((prefix for prefix in OWN if link.startswith(prefix)), None)
    if own is None and re.match(r"[a-z]+:", link):
        return None
    path, _, fragment = unquote(link.removeprefix(own or "")).partition("#")
    target = (ROOT if own else page.parent) / path if path else page
    if not target.exists():
        return f"{link}: there is no {target}"
    if fragment and target.suffix == ".md" and fragment not in anchors_of(target.resolve()):
        return f"{link}: {name_of(target.resolve())} has no heading #{fragment}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert [problem for link in links_of(page) if (problem := broken_link(page, link))] == []


def test_broken_links_are_found() -> None:
    page = ROOT / "docs" / "README.md"
    assert "there is no" in (broken_link(page, "nowhere.md") or "")
    assert "no heading" in (broken_link(page, "formats.md#nothing") or "")
    assert "there is no" in (broken_link(page, OWN[0] + "docs/nowhere.md") or "")
    assert broken_link(page, "formats.md#float16-and-int8") is None
    assert len([link for page in PAGES for link in links_of(page)]) > 50


def commands_of(page: Path) -> Iterator[list[str]]:
    """The arguments of each call of explainable-model in a page's code."""
    for _, language, code in FENCE.findall(text_of(page)):
        if language in ("", "sh", "bash", "console"):
            for line in code.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    if command.split()[:1] == ["explainable-model"]:
                        yield shlex.split(command, comments=True)[1:]


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands_of(page))], ids=name_of)
def test_commands_parse(page: Path) -> None:
    for arguments in commands_of(page):
        build_parser().parse_args(arguments)


def test_the_command_line_is_described() -> None:
    page = text_of(ROOT / "docs" / "cli.md")
    (children,) = (action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction))
    actions = [action for child in children.choices.values() for action in child._actions]
    options = {option for action in actions for option in action.option_strings}
    words = set(re.findall(r"[\w-]+", page))
    assert set(children.choices) <= words
    assert {option for option in options if option.startswith("--")} <= words


@pytest.mark.parametrize(
    ("names", "printed"),
    [
        (("use.md", "photos.md"), ["1, 64, 64", "1, 64, 64", "1, 5, 64, 64", *["1, 64, 64"] * 3, "2, 32, 32"]),
        (("targets.md",), ["2, 32, 32"]),
    ],
    ids=["use and photos", "targets"],
)
def test_examples_run(names: tuple[str, ...], printed: list[str], tmp_path: Path) -> None:
    text = "\n".join(text_of(ROOT / "docs" / name) for name in names)
    code = "\n".join(code for _, language, code in FENCE.findall(text) if language == "python")
    smaller = code.replace("resnet50(", "resnet18(").replace("224, 224", "64, 64").replace("resize=256", "resize=80")
    Image.effect_noise((100, 90), 50).convert("RGB").save(tmp_path / "cat.jpg")
    Image.fromarray(np.arange(4000, dtype=np.uint16).reshape(50, 80)).save(tmp_path / "film.png")
    done = subprocess.run([sys.executable, "-c", smaller], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert re.findall(r"\d+(?:, \d+)+", done.stdout) == printed
    if "photos.md" in names:
        for name, size in (("overlay.png", (100, 90)), ("film-overlay.png", (80, 50))):
            with Image.open(tmp_path / name) as overlay:
                assert overlay.size == size


def test_the_first_hour_runs(tmp_path: Path) -> None:
    page = text_of(ROOT / "docs" / "first-hour.md")
    code = "\n".join(code for _, language, code in FENCE.findall(page) if language == "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    promised = re.search(r"print\(answer\) +# (.*)", page)
    assert promised
    assert lines[0] == promised[1]
    assert [line.split()[0] for line in lines[2:5]] == ["chelsea.png", "coffee.png", "camera.png"]
    assert lines[5] == "2 13"
    sizes = {}
    for name in ("explained.png", "classes.png", "methods.png"):
        with Image.open(tmp_path / name) as picture:
            sizes[name] = picture.size
    assert sizes["explained.png"][0] == 1032
    assert sizes["methods.png"][0] > sizes["methods.png"][1]


def test_the_commands_of_a_signature_run(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is missing: apt-get install openssh-client")
    codes = [code for _, language, code in FENCE.findall(text_of(ROOT / "docs" / "formats.md")) if language == "sh"]
    (commands,) = (code for code in codes if "ssh-keygen" in code)
    (tmp_path / "resnet50.onnx").write_bytes(b"an artifact")
    done = subprocess.run(["bash", "-ec", commands], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "Good" in done.stdout) == (0, True), done.stderr
    (tmp_path / "resnet50.onnx").write_bytes(b"another one")
    verify = commands.strip().splitlines()[-1]
    assert subprocess.run(["bash", "-ec", verify], cwd=tmp_path, capture_output=True).returncode != 0
