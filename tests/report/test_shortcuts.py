"""The search for shortcuts, on made-up maps: what raises an alarm, and what does not."""

from pathlib import Path

import numpy as np
import pytest

from explainable_model.errors import MissingRuntimeError
from explainable_model.report import Cluster, find_shortcuts, write_report
from explainable_model.report.clusters import cluster_maps
from explainable_model.report.run_reader import read_run
from tests.support.run_folders import Row, blob, make_row, write_run

NAMES = ("cat", "dog", "owl")


def anywhere(rng: np.random.Generator) -> np.ndarray:
    return blob(*rng.uniform(0, 6, 2), width=rng.uniform(0.7, 1.4)) + 0.05 * rng.random((7, 7))


def make_rows(
    seed: int, photos: int, marked: float = 0.0, place: tuple[float, float] = (6, 6), right: float = 0.9
) -> list[Row]:
    """Photos of three classes with subjects anywhere; a share of the owls is recognized by a mark."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(photos):
        class_idx = number % 3
        has_mark = class_idx == 2 and rng.random() < marked
        cam = (
            blob(*(np.array(place) + rng.normal(0, 0.3, 2)), width=rng.uniform(0.7, 1.2)) if has_mark else anywhere(rng)
        )
        wrong = rng.random() > (0.3 if has_mark else right)
        label = NAMES[(class_idx + 1) % 3] if wrong else NAMES[class_idx]
        rows.append(make_row(f"{'marked' if has_mark else 'plain'} {number}", cam, class_idx=class_idx, label=label))
    return rows


def search(folder: Path, rows: list[Row]) -> list[Cluster]:
    return find_shortcuts(write_run(folder / "run", rows))


@pytest.mark.parametrize(("marked", "photos"), [(1.0, 60), (0.6, 90), (0.3, 300)])
@pytest.mark.parametrize("seed", range(3))
def test_a_mark_comes_first(tmp_path: Path, marked: float, photos: int, seed: int) -> None:
    rows = make_rows(seed, photos, marked)
    first, *others = search(tmp_path, rows)
    assert first.alarm
    assert (first.name, first.place.describe()) == ("owl", "bottom right corner")
    members = {rows[number]["id"] for number in first.rows.tolist()}
    with_mark = {row["id"] for row in rows if row["id"].startswith("marked")}
    assert len(members & with_mark) >= 0.9 * len(with_mark)
    assert len(members & with_mark) >= 0.85 * len(members)
    assert not any(cluster.alarm for cluster in others)
    assert first.elsewhere is not None
    assert first.here.share > 0.8 * marked > first.elsewhere.share
    assert first.accuracy is not None
    assert first.accuracy.share < 0.5, "the mark misleads"
    if marked < 1:
        assert first.difference is not None
        assert first.difference.high < 0, "the cluster is wrong more often than the rest of its class"


@pytest.mark.parametrize("photos", [30, 120, 600])
@pytest.mark.parametrize("seed", range(4))
def test_without_a_mark_there_is_no_alarm(tmp_path: Path, photos: int, seed: int) -> None:
    assert [str(cluster) for cluster in search(tmp_path, make_rows(seed, photos)) if cluster.alarm] == []


def test_what_every_class_looks_at_is_no_shortcut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [make_row(str(n), blob(0.2, 0.2, width=rng.uniform(0.7, 1.2)), class_idx=n % 3) for n in range(90)]
    assert not any(cluster.alarm for cluster in search(tmp_path, rows))


def test_a_subject_in_the_middle_is_no_shortcut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = make_rows(0, 90, 1.0, place=(3, 3))
    assert not any(cluster.alarm for cluster in search(tmp_path, rows))
    edges = [make_row(f"edge {n}", blob(*rng.choice([0, 6], 2)), class_idx=n % 2) for n in range(60)]
    middle = [make_row(f"middle {n}", blob(3, 3), class_idx=2) for n in range(30)]
    found = find_shortcuts(write_run(tmp_path / "other", edges + middle))
    assert not any(cluster.alarm for cluster in found if cluster.name == "owl")


def test_one_class_alone_has_nothing_to_compare_with(tmp_path: Path) -> None:
    rows = [row for row in make_rows(0, 90, 1.0) if row["class"] == 2]
    found = search(tmp_path, rows)
    assert found[0].elsewhere is None
    assert not any(cluster.alarm for cluster in found)


def test_classes_that_give_nothing_to_cluster(tmp_path: Path) -> None:
    rows = [make_row("few"), *(make_row(f"zero {n}", np.zeros((7, 7)), class_idx=1) for n in range(20))]
    assert search(tmp_path, rows) == []
    equal = [make_row(f"equal {n}", blob(1, 1)) for n in range(20)]
    assert [cluster.share for cluster in find_shortcuts(write_run(tmp_path / "equal", equal))] == [(20, 20)]
    assert find_shortcuts(write_run(tmp_path / "failed", [make_row("a", error="broken")])) == []
    coarse = [make_row(str(n), np.eye(3)[::-1] if n % 2 else np.eye(3), class_idx=n % 2) for n in range(40)]
    run = write_run(tmp_path / "coarse", coarse)
    assert find_shortcuts(run) == []
    assert "3 x 3 cells, too few to search" in write_report(run, tmp_path / "coarse.html").notes[0]


def test_many_maps_are_sampled_and_all_have_a_group(tmp_path: Path) -> None:
    table = read_run(write_run(tmp_path / "run", make_rows(0, 3000, 0.5), part_rows=3000))
    owls = np.flatnonzero(table.explained == 2)
    groups = cluster_maps(table.maps[owls])
    assert groups.shape == owls.shape
    assert (np.diff(np.bincount(groups)) <= 0).all(), "the largest is the first"
    assert np.array_equal(groups, cluster_maps(table.maps[owls]))


def test_the_report_says_what_is_missing_without_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", make_rows(0, 30))
    monkeypatch.setattr("explainable_model.report.clusters.find_spec", lambda name: None)
    with pytest.raises(MissingRuntimeError, match=r"scikit-learn: pip install 'explainable-model\[batch\]'"):
        find_shortcuts(run)
    found = write_report(run, tmp_path / "report.html")
    assert "needs scikit-learn" in found.notes[-1] + found.notes[0]
    assert found.clusters == []
