"""The page: what it holds, what it asks of the browser, and what becomes of hostile names and lost photos."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from explainable_model.errors import ArtifactError, InputError
from explainable_model.report import Report, write_coco, write_report
from explainable_model.report.page import dump
from tests.support.cli_run import Run
from tests.support.run_folders import Row, blob, make_row, write_run

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "\"'><img src=x onerror=alert(1)>",
    '=HYPERLINK("http://example.com")',
    "\u2028\u202e&amp;{{7*7}}@@script@@",
    "../../../etc/passwd",
    "a" * 5000,
)


def read_content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        re.findall(r'id="content">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)[0]
    )
    return found


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Six photos of noise, of a camera's proportions."""
    made = []
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        made.append(tmp_path / "photos" / f"photo{number}.png")
        made[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).resize((400, 300)).save(made[-1])
    return made


def make_rows(photos: list[Path]) -> list[Row]:
    return [make_row(str(p), blob(n, n), class_idx=n % 2, label="cat", photo=p) for n, p in enumerate(photos)]


def write(run: Path, **options: Any) -> tuple[Report, dict[str, Any]]:
    report = write_report(run, run.parent / "report.html", **options)
    return report, read_content(report.path)


def test_the_page_holds_the_photos_and_their_maps(tmp_path: Path, photos: list[Path]) -> None:
    report, content = write(write_run(tmp_path / "run", make_rows(photos)))
    assert (report.photos, report.shown, report.notes) == (6, 6, [])
    assert [row["right"] for row in content["rows"]] == [0, 0, 0, 1, 1, 1]
    assert all(row["picture"].startswith("data:image/webp;base64,") for row in content["rows"])
    assert {row["id"] for row in content["rows"]} == {path.name for path in photos}, "no folder of the machine"
    assert str(tmp_path) not in report.path.read_text("utf-8")
    assert (content["accuracy"][:2], content["photos"]) == ([3, 6], 6)
    assert report.size == report.path.stat().st_size


class Elements(HTMLParser):
    """Counts elements, and collects attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    rows = [make_row(text + str(n), blob(0, n), label=text, names=HOSTILE) for n, text in enumerate(HOSTILE)]
    rows.append(make_row("failed", error=HOSTILE[0]))
    run = write_run(tmp_path / "run", rows, class_names=HOSTILE, artifact=HOSTILE[2])
    report, content = write(run, title=HOSTILE[0] + HOSTILE[4])
    page = report.path.read_text("utf-8")
    found = Elements()
    found.feed(page)
    assert found.tags.count("script") == 2
    assert "img" not in found.tags
    assert found.loads == ["data:,", "#photos"]
    assert content["rows"][-1]["error"] == HOSTILE[0]
    assert {row["label"] for row in content["rows"] if "label" in row} >= set(HOSTILE[:6])
    assert max(len(row["id"]) for row in content["rows"]) == 300, "a long name is cut"
    script = page.split('id="content">')[1].split("</script>")[0]
    assert not set("<>&\u2028") & set(script)


def test_the_page_may_load_nothing(tmp_path: Path) -> None:
    report, _ = write(write_run(tmp_path / "run", [make_row("a")]))
    page = report.path.read_text("utf-8")
    policy = re.findall(r'Content-Security-Policy" content="(.*?)"', page)[0]
    assert policy.startswith("default-src &#x27;none&#x27;; img-src data: blob:; style-src &#x27;sha256-")
    assert "unsafe" not in policy
    shown = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttpRequest|innerHTML|eval\(", shown)


def test_photos_that_are_gone_or_changed(tmp_path: Path, photos: list[Path]) -> None:
    run = write_run(tmp_path / "run", make_rows(photos))
    photos[0].unlink()
    photos[1].write_bytes(photos[2].read_bytes())
    report, content = write(run)
    assert sum("picture" in row for row in content["rows"]) == 4
    assert {row["missing"] for row in content["rows"] if "missing" in row} == {
        "the photo was not found",
        "the photo has changed since the run",
    }
    assert any(
        "1 of 6 photos have no picture here: the photo was not found. Name the folder" in n for n in report.notes
    )
    moved = photos[2].parent.rename(tmp_path / "elsewhere")
    assert sum("picture" in row for row in write(run)[1]["rows"]) == 0
    assert sum("picture" in row for row in write(run, photos=moved)[1]["rows"]) == 4
    assert write(run, thumbnails=False)[0].notes == []


def test_names_do_not_lead_out_of_the_folder_of_photos(tmp_path: Path, photos: list[Path]) -> None:
    (tmp_path / "inner").mkdir()
    rows = [make_row("../photos/photo0.png", blob(0, 0)), make_row("b", uri="/dev/zero"), make_row("c\0d", uri="e\0f")]
    _, content = write(write_run(tmp_path / "run", rows), photos=tmp_path / "inner")
    assert [row.get("missing") for row in content["rows"]] == ["the photo was not found"] * 3


def test_every_thumbnail_is_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    rows = [
        make_row(f"{n:0300}", np.random.default_rng(n).random((7, 7)), photo=tmp_path / "noise.png") for n in range(3)
    ]
    _, content = write(write_run(tmp_path / "run", rows))
    assert max(len(json.dumps(row)) for row in content["rows"]) < 7900, "a thousand photos take less than 8 MB"


def test_a_sample_says_that_it_is_one(tmp_path: Path) -> None:
    rows = [make_row(str(n), blob(n % 7, 3), label="cat", class_idx=int(n % 9 == 0)) for n in range(120)]
    report, content = write(write_run(tmp_path / "run", rows), limit=50)
    assert (report.photos, report.shown, len(content["rows"])) == (120, 50, 50)
    assert report.notes[0].startswith("The page shows 50 of 120 photos")
    assert sum(one["photos"] for one in content["classes"]) == 120


def test_rows_with_errors_only(tmp_path: Path) -> None:
    rows = [make_row(str(n), error="truncated", label="cat") for n in range(3)]
    report, content = write(write_run(tmp_path / "run", rows))
    assert (content["failed"], content["classes"], content["strengths"], content["accuracy"]) == (3, [], None, None)
    assert [row["error"] for row in content["rows"]] == ["truncated"] * 3
    assert report.clusters == []


def test_odd_values_of_rows(tmp_path: Path) -> None:
    top = {"class": 1, "name": None, "score": None}
    odd: list[dict[str, Any]] = [
        {"crop": [None] * 4, "half_max_box": [None] * 4},
        {"top_k": [None, {**top, "class": None}, top, top]},
        {"score": 3e38, "entropy": float("nan"), "hottest_tenth": float("inf"), "width": -3},
        {"name": None, "uri": None, "sha256": "", "label": ""},
    ]
    rows = [{**make_row(str(n), class_idx=0, score=3e38), **change} for n, change in enumerate(odd)]
    run = write_run(tmp_path / "run", rows, class_names=None)
    _, content = write(run)
    by_id = {row["id"]: row for row in content["rows"]}
    assert by_id["0"]["crop"] == [0, 0, 1, 1]
    assert by_id["1"]["top"] == [["class 1", None]] * 2
    assert "size" not in by_id["2"]
    assert {row["class"] for row in content["rows"]} == {"cat"}
    assert write_coco(run, tmp_path / "coco.json") == 2


def test_signed_maps_and_fine_maps(tmp_path: Path) -> None:
    fine = make_row("fine", blob(40, 10, side=56, width=5))
    signed = make_row("signed", blob(1, 1) - blob(5, 5), signed=True)
    _, content = write(write_run(tmp_path / "run", [fine, signed]))
    by_id = {row["id"]: row for row in content["rows"]}
    assert (by_id["fine"]["grid"], by_id["fine"]["zero"]) == ([20, 20], 0)
    assert (by_id["signed"]["grid"], by_id["signed"]["zero"]) == ([7, 7], 128)


def test_two_runs_side_by_side(tmp_path: Path) -> None:
    old = [make_row(f"{n}", blob(1, 1), class_idx=0, label="cat", sha256="a" * 64) for n in range(20)]
    new = [make_row(f"{n}", blob(1, 1) if n else blob(5, 5), class_idx=int(n < 3), label="cat") for n in range(19)]
    new += [make_row("new", blob(0, 0))]
    runs = [write_run(tmp_path / name, rows) for name, rows in (("new", new), ("old", old))]
    _, content = write(runs[0], against=runs[1])
    found = content["against"]
    assert (found["photos"], found["flipped"][:2], found["moved"][:2]) == (19, [3, 19], [1, 19])
    assert (found["flips"], found["only"], found["won"], found["lost"]) == ([["dog", "cat", 3]], [1, 1], 3, 0)
    by_id = {row["id"]: row for row in content["rows"]}
    assert (by_id["0"]["other"]["flipped"], by_id["0"]["other"]["class"]) == (True, "cat")
    assert by_id["0"]["other"]["moved"] > 0.9
    assert by_id["5"]["other"]["moved"] == 0
    assert "other" not in by_id["new"]


def test_moves_are_measured_in_the_photo_and_not_in_the_crop(tmp_path: Path) -> None:
    whole = [make_row("a", blob(13.5, 20.5, side=28, width=2), size=(280, 280))]
    cut = [make_row("a", blob(13.5, 27, side=28, width=4), size=(280, 280), crop=[70.0, 70.0, 210.0, 210.0])]
    runs = [write_run(tmp_path / name, rows) for name, rows in (("whole", whole), ("cut", cut))]
    _, content = write(runs[0], against=runs[1])
    assert content["rows"][0]["other"]["moved"] < 0.15


def test_photos_are_paired_by_content_where_ids_differ(tmp_path: Path) -> None:
    one = [make_row(f"here/{n}", sha256=f"{n:064}") for n in range(3)]
    other = [make_row(f"there/{n}", sha256=f"{n:064}") for n in range(1, 4)]
    runs = [write_run(tmp_path / name, rows) for name, rows in (("one", one), ("other", other))]
    assert write(runs[0], against=runs[1])[1]["against"]["photos"] == 2
    changed = [make_row("here/0", sha256="f" * 64), make_row("here/1", sha256=f"{1:064}")]
    found = write(runs[0], against=write_run(tmp_path / "changed", changed))[1]["against"]
    assert (found["photos"], found["changed"]) == (1, 1)
    with pytest.raises(InputError, match="have no photo in common"):
        write(runs[0], against=write_run(tmp_path / "third", [make_row("z")]))


def test_what_is_asked_for_wrongly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [make_row("a")])
    with pytest.raises(InputError, match="expected a file that ends in .html"):
        write_report(run, tmp_path / "report.pdf")
    with pytest.raises(InputError, match="limit is 0; expected"):
        write_report(run, tmp_path / "report.html", limit=0)
    with pytest.raises(InputError, match="There is no folder"):
        write_report(run, tmp_path / "report.html", photos=tmp_path / "nowhere")
    (tmp_path / "taken.html").mkdir()
    with pytest.raises(ArtifactError, match="is a directory"):
        write_report(run, tmp_path / "taken.html")
    failed = Run(capsys, "report", tmp_path / "nowhere", "-o", tmp_path / "report.html")
    assert (failed.code, failed.out) == (2, "")
    assert "holds no run" in failed.err
    assert not (tmp_path / "report.html").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [make_row(str(n), blob(n, n)) for n in range(6)])
    done = Run(
        capsys, "report", run, "-o", tmp_path / "report.html", "--no-thumbnails", "--limit", 4, "--title", "Cats"
    )
    assert done.code == 0
    assert done.out.startswith("No group of maps looks like a shortcut.\n-> ")
    assert "(4 of 6 photos, " in done.out
    assert "warning: The page shows 4 of 6 photos" in done.err
    record = Run(capsys, "report", run, "-o", tmp_path / "report.html", "--json").record
    assert (record["photos"], record["shown"]) == (6, 6)
    assert record["clusters"][0]["of"] == 6
    assert "<title>Cats</title>" not in (tmp_path / "report.html").read_text()


def test_json_in_a_script_cannot_end_it() -> None:
    text = dump({"a": "</script>&\u2028"})
    assert text == '{"a":"\\u003c/script\\u003e\\u0026\\u2028"}'
    assert json.loads(text) == {"a": "</script>&\u2028"}
