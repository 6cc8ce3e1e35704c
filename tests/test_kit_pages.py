"""The pages of the kits follow one outline, and name files that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ("cpp", "http")  # what several kits have in common
KITS = sorted(page.parent.name for page in (ROOT / "export").glob("*/README.md") if page.parent.name not in SHARED)
OUTLINE = ["Who it is for", "Ten lines to the first overlay", "Your own model", "Limits", "Cost"]
CODE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
CALL = re.compile(r"(?:^|\s)(export/\S+\.py)(.*)")


def sections_of(kit: str) -> dict[str, str]:
    """The text below each heading of the second level."""
    text = (ROOT / "export" / kit / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^## +(.+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands_of(text: str) -> list[str]:
    """The lines of the blocks of commands, without comments."""
    lines = [
        line.split("  #")[0].strip()
        for language, code in CODE.findall(text)
        if not language
        for line in code.splitlines()
    ]
    return [line for line in lines if line]


def test_every_kit_is_listed() -> None:
    assert KITS == ["edge", "libtorch", "litserve", "onnxruntime", "torchserve", "triton", "web"]
    for page in ("export/README.md", "docs/deploy.md", "README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert [kit for kit in KITS if f"{kit}/README.md" not in text] == [], page


@pytest.mark.parametrize("kit", KITS)
def test_the_outline(kit: str) -> None:
    sections = sections_of(kit)
    assert [heading for heading in sections if heading != "Details"] == OUTLINE
    assert list(sections)[: len(OUTLINE)] == OUTLINE
    for heading, text in sections.items():
        assert len(text.split()) > 20, f"{heading} says nothing"
    first = commands_of(sections[OUTLINE[1]])
    assert 3 <= len([line for line in first if not line.startswith("models/")]) <= 10
    assert any("demo" in line for line in first), "the first overlay needs no file but a photo"
    assert CODE.search(sections["Your own model"])


@pytest.mark.parametrize("kit", KITS)
def test_the_files_of_the_commands_exist(kit: str) -> None:
    named = {
        word
        for text in sections_of(kit).values()
        for line in commands_of(text)
        for word in re.findall(r"(?<![\w/.])export/[\w/.-]+", line)
    }
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("kit", KITS)
def test_the_scripts_know_the_options(kit: str) -> None:
    calls = [call for text in sections_of(kit).values() for line in commands_of(text) if (call := CALL.search(line))]
    for script, arguments in (call.groups() for call in calls):
        folder = (ROOT / script).parent
        known = "\n".join(file.read_text(encoding="utf-8") for file in folder.glob("*.py"))
        options = re.findall(r"(?<!\S)--?[a-z][\w-]*", arguments)
        assert [option for option in options if f'"{option}"' not in known] == [], script
