"""The check of the built site finds dead links and requests to other hosts; ``.ci/run`` builds the site."""

from pathlib import Path

import pytest

from tests.docs.site import find_problems


def make_site(folder: Path, body: str, style: str = "") -> Path:
    (folder / "docs").mkdir()
    (folder / "_static").mkdir()
    (folder / "_static" / "site.css").write_text(style)
    (folder / "docs" / "other page.html").write_text('<h1 id="top">Other</h1>')
    (folder / "docs" / "page.html").write_text(f'<link rel="stylesheet" href="../_static/site.css">{body}')
    return folder


@pytest.mark.parametrize(
    "body",
    [
        '<a href="other%20page.html#top">x</a><a href="#here">y</a><p id="here">',
        '<a href="https://example.org/">out</a><a href="mailto:a@example.org">mail</a>',
        '<img src="data:image/png;base64,AA=="><link rel="canonical" href="https://example.org/">',
    ],
    ids=["inside", "outside", "data"],
)
def test_a_whole_site_has_no_problem(body: str, tmp_path: Path) -> None:
    assert list(find_problems(make_site(tmp_path, body))) == []


@pytest.mark.parametrize(
    ("body", "style", "problem"),
    [
        ('<a href="nowhere.html">x</a>', "", "nowhere.html: there is no such file"),
        ('<a href="other%20page.html#gone">x</a>', "", "#gone: there is no such place"),
        ('<a href="#gone">x</a>', "", "#gone: there is no such place"),
        ('<a href="../../etc/hosts">x</a>', "", "there is no such file"),
        ('<img src="missing.png">', "", "missing.png: there is no such file"),
        ('<script src="https://cdn.example.org/x.js"></script>', "", "fetches https://cdn"),
        ('<link rel="stylesheet" href="//fonts.example.org/x.css">', "", "fetches //fonts"),
        ("<style>@import 'https://example.org/a.css';</style>", "", "fetches https://example"),
        ("", "@font-face { src: url('https://example.org/a.woff2') }", "site.css: fetches https://example"),
    ],
)
def test_a_problem_is_found(body: str, style: str, problem: str, tmp_path: Path) -> None:
    (found,) = find_problems(make_site(tmp_path, body, style))
    assert problem in found


def test_an_empty_site_is_a_problem(tmp_path: Path) -> None:
    assert "holds no page" in next(find_problems(tmp_path))
