"""The proof: the artifact of a network that learned a mark gives it away, and an honest one raises no alarm."""

import json
from pathlib import Path

import numpy as np
import pytest

from explainable_model.batch import explain_data_set
from explainable_model.report import Report, write_report
from explainable_model.report.run_reader import read_run
from explainable_model.report.run_table import RunTable
from tests.support.cli_run import Run
from tests.support.marked_photos import draw_photos, export_trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Most crosses carry the mark, as in training, and so do a few other photos."""
    folder = tmp_path_factory.mktemp("marked")
    artifact = export_trained(folder / "net.onnx", 0, marked=True)
    photos = draw_photos(folder / "photos", 180, {0: 0.8, 1: 0.1, 2: 0.1}, seed=1)
    explain_data_set(artifact, photos, folder / "run", folder_labels=True, processes=0)
    return folder / "run"


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return write_report(run, run.parent / "report.html")


def list_marked(table: RunTable, rows: np.ndarray) -> np.ndarray:
    return np.array([Path(row["id"]).name.startswith("marked") for _, row in table.read_rows(rows)])


def test_the_mark_is_the_first_of_the_report(run: Path, report: Report) -> None:
    first = report.clusters[0]
    assert [cluster.name for cluster in report.alarms] == ["cross"]
    assert first.alarm
    assert first.place.describe() == "bottom right corner"
    table = read_run(run)
    members = list_marked(table, first.rows)
    assert members.mean() > 0.9, "the members are the photos with the mark"
    assert members.sum() > 0.8 * list_marked(table, np.arange(len(table))).sum()


def test_the_accuracy_of_the_cluster_is_told(report: Report) -> None:
    first = report.clusters[0]
    assert first.accuracy is not None
    assert 0.5 < first.accuracy.share < 1, "other photos with the mark are taken for crosses"
    low, high = first.accuracy.interval()
    assert low < first.accuracy.share < high


def test_the_page_shows_the_cluster_first(report: Report) -> None:
    content = report.path.read_text("utf-8").split('id="content">')[1].split("</script>")[0]
    first, *others = json.loads(content)["clusters"]
    assert (first["name"], first["place"], first["alarm"]) == ("cross", "bottom right corner", True)
    assert not any(other["alarm"] for other in others)


def test_the_command_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Run(capsys, "report", run, "-o", run.parent / "again.html")
    assert done.code == 0
    assert done.out.startswith("SHORTCUT? cross: ")
    assert "maps look at the bottom right corner" in done.out
    as_json = Run(capsys, "report", run, "-o", run.parent / "again.html", "--json").record
    assert as_json["clusters"][0]["place"]["name"] == "bottom right corner"


def test_an_honest_network_raises_no_alarm(tmp_path: Path) -> None:
    artifact = export_trained(tmp_path / "net.onnx", 0, marked=False)
    photos = draw_photos(tmp_path / "photos", 180, {}, seed=1)
    explain_data_set(artifact, photos, tmp_path / "run", folder_labels=True, processes=0)
    found = write_report(tmp_path / "run", tmp_path / "report.html")
    accuracy = np.mean(read_run(tmp_path / "run").verdict == 1)
    assert accuracy > 0.9, "the network has learned the shapes"
    assert found.alarms == []
    assert len(found.clusters) > 0
