"""Exports that are killed: the target is the old file, the new one, or absent; never a piece of one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model import load
from explainable_model.errors import ExplainableModelError
from tests.siege.artifacts import ENDINGS, make_artifact, make_image

ROOT = Path(__file__).parents[2]
LOOP = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
from explainable_model import ExplainableModel, export
from tests.siege.artifacts import make_image
from tests.support.nets import TinyResNet, seeded
image = torch.from_numpy(make_image())
explainable = [ExplainableModel(seeded(TinyResNet(5), seed=seed), "layer2") for seed in (0, 1)]
print("ready", flush=True)
while True:
    for each in explainable:
        export(each, Path(sys.argv[1]), image)
"""


def run(folder: Path, kills: int, seed: int = 0, endings: Sequence[str] = ENDINGS) -> dict[str, Any]:
    """Kill exports ``kills`` times for each format."""
    return {ending: _siege(folder / ending[1:], ending, kills, seed) for ending in endings}


def _siege(folder: Path, ending: str, kills: int, seed: int) -> dict[str, Any]:
    """Kill a process that exports two networks to one path in turn, at moments of chance."""
    folder.mkdir(parents=True)
    target, image = folder / f"model{ending}", make_image()
    answers = _find_answers(folder.parent, ending, image)
    dice, harm = random.Random(seed), []
    left: list[int] = []
    for number in range(kills):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", LOOP, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(dice.uniform(0.2, 6.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
        left.append(len(list(folder.iterdir())))
        if target.exists():
            try:
                logits = np.asarray(load(target)(image).logits)
            except ExplainableModelError as error:
                harm.append(f"kill {number}: {error}")
                continue
            if not any(np.allclose(logits, answer, atol=1e-4) for answer in answers):
                harm.append(f"kill {number}: a mixture of two networks")
    make_artifact(target)  # the next whole export clears up what the killed ones left
    names = sorted(path.name for path in folder.iterdir())
    expected = sorted({target.name, *([target.with_suffix(".bin").name] if ending == ".xml" else [])})
    if names != expected:
        harm.append(f"left behind: {names}")
    return {"kills": kills, "most_files": max(left), "outcomes": {"whole": kills - len(harm)}, "harm": harm}


def _find_answers(folder: Path, ending: str, image: Any) -> list[Any]:
    import torch

    from tests.support.nets import TinyResNet, seeded

    return [seeded(TinyResNet(5), seed=seed)(torch.from_numpy(image)).detach().numpy() for seed in (0, 1)]
