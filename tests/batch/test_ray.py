"""Ray: the rows of one machine, also where an actor or the driver is killed.

Ray is a package of the extra ``engines``: ``pip install -e '.[test,engines]'``, then
``pytest -m '' tests/batch/test_ray.py``, 40 seconds of the processor.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from explainable_model.batch import BatchExplainer
from tests.batch.test_adapters import list_paths
from tests.batch.test_batch_explainer import to_rows
from tests.batch.test_pool import count_parts, expected, many, wait_for  # noqa: F401
from tests.batch.test_run import read_rows


@pytest.fixture(autouse=True)
def _ray(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else Ray's processes give way to every other one of the machine


SCRIPT = """
import sys
import ray
import pyarrow
from explainable_model.batch import BatchExplainer, explain_data_set
from explainable_model.errors import InputError

if __name__ == "__main__":
    artifact, photos, run, detector, *squares = sys.argv[1:]
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="warning")
    try:
        explain_data_set(artifact, photos, run + "-refused", engine="ray", processes=3)
    except InputError as error:
        print(error)
    data = ray.data.from_items([{"uri": f"{photos}/{number:03d}.png"} for number in range(8)])
    made = data.map_batches(
        BatchExplainer, fn_constructor_args=(artifact,), batch_size=4, compute=ray.data.ActorPoolStrategy(size=2)
    )
    print(sorted((row["uri"], row["name"]) for row in made.iter_rows()))
    found = ray.data.from_items([{"uri": path} for path in squares]).map_batches(
        BatchExplainer, fn_constructor_args=(detector,), batch_size=2, compute=ray.data.ActorPoolStrategy(size=1)
    )
    print(sorted((row["uri"], [(*box["box"], box["name"]) for box in row["boxes"] or ()]) for row in found.iter_rows()))
    ray.shutdown()
"""


def command(artifact: Path, photos: Path, run: Path) -> list[str]:
    words = ("batch", artifact, photos, "-o", run, "--engine", "ray", "--processes", 2, "--part", 4, "--json")
    return [sys.executable, "-m", "explainable_model", *map(str, words)]


def find_actors(driver: int) -> list[psutil.Process]:
    """The processes of the actors, whose names Ray sets."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_killed_actor_and_a_killed_driver(
    artifact: Path,
    many: Path,  # noqa: F811
    tmp_path: Path,
    expected: list[dict[str, Any]],  # noqa: F811
) -> None:
    run = tmp_path / "run"
    driver = subprocess.Popen(command(artifact, many, run), stdout=subprocess.DEVNULL)
    wait_for(lambda: count_parts(run) >= 2)
    actors = find_actors(driver.pid)
    assert len(actors) == 2
    actors[0].kill()
    made = count_parts(run)
    wait_for(lambda: count_parts(run) >= made + 6)
    family = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    driver.wait()
    psutil.wait_procs(family, 30)
    made = count_parts(run)
    assert made < 30
    done = subprocess.run(command(artifact, many, run), stdout=subprocess.PIPE, text=True, check=True)
    record = json.loads(done.stdout)
    assert (record["photos"], record["explained"], record["failed"]) == (120, 120 - 4 * made, 0)
    assert read_rows(run) == expected


def test_a_pipeline_of_the_users_own(
    artifact: Path,
    many: Path,  # noqa: F811
    tmp_path: Path,
    expected: list[dict[str, Any]],  # noqa: F811
    detector: Path,
    squares: Path,
) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    words = [artifact, many, tmp_path / "run", detector, *list_paths(squares)]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True)
    refused, rows, boxes = done.stdout.strip().splitlines()[-3:]
    assert "3 actor(s) of 1 thread(s) were asked for; this cluster has room for 2" in refused
    assert rows == str(sorted((row["uri"], row["name"]) for row in expected[:8]))
    wanted = to_rows(BatchExplainer(detector)({"uri": list_paths(squares)}))
    assert boxes == str([(row["uri"], [(*box["box"], box["name"]) for box in row["boxes"] or ()]) for row in wanted])
