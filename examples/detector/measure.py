"""Measures the maps of a detector's boxes on generated scenes: do they lie in their boxes, and do they differ?

Usage: python examples/detector/measure.py [--scenes 60] [--copies 1000] [--copied-scenes 8] [--json]
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice

import numpy as np
import torch
from numpy.typing import NDArray
from scenes import Scene, SceneMaker
from scoring import Found, intersection_over_union, match
from torch import nn
from tqdm import tqdm

import explainable_model as xm
from explainable_model.demo.detector import PREPROCESS, load_detector
from explainable_model.evaluation import Detected, drise
from explainable_model.imaging.regions import compute_share_inside

METHODS = ("gradcam", "hirescam", "layercam", "gradcam++", "eigencam")
BOXES = 5
APART = 0.1  # boxes that overlap less than this are compared with each other

Maps = NDArray[np.floating]
Explain = Callable[[NDArray[np.float32], Found], Maps]


@dataclass(frozen=True)
class Row:
    """What one method's maps are like, in the mean over boxes that are right.

    Attributes:
        method: its name.
        boxes: how many boxes were explained.
        energy: share of a map inside its box.
        chance: share of the image that the box covers.
        pointing: share of the maps whose largest value lies in their box.
        correlation: of the maps of two boxes of one scene that lie apart.
        seconds: of CPU for the maps of one scene; of gradients, with the boxes.
    """

    method: str
    boxes: int
    energy: float
    chance: float
    pointing: float
    correlation: float
    seconds: float


def find_boxes(network: nn.Module, scene: Scene) -> Found:
    """Find at most five boxes that are right, surest first, with torchvision's own post-processing."""
    (found,) = detect(network, PREPROCESS(scene.picture))
    boxes, scores, labels = (np.asarray(part)[:BOXES] for part in found)
    return Found(boxes, labels, scores)


@torch.no_grad()
def detect(network: nn.Module, images: NDArray[np.float32]) -> list[Detected]:
    """Run torchvision's detector as it is: ``(N, 3, H, W)``."""
    answers = network(list(torch.from_numpy(images)))
    return [Detected(*(answer[name].numpy() for name in ("boxes", "scores", "labels"))) for answer in answers]


def explain_by(network: nn.Module, method: str) -> Explain:
    """Make the function that returns the maps of the five best boxes by gradients."""
    explainable = xm.ExplainableModel(network, task="detection", top_k=BOXES, method=method)

    def explain(image: NDArray[np.float32], found: Found) -> Maps:
        detections, cam = explainable(torch.from_numpy(image))
        count = len(found.boxes)
        assert np.allclose(detections.boxes[0, :count].numpy(), found.boxes, atol=1e-3), "not torchvision's boxes"
        return cam[0, :count].numpy()

    return explain


def explain_by_copies(network: nn.Module, copies: int) -> Explain:
    """Make the function that returns the maps of boxes by D-RISE, which runs the detector on masked copies."""

    def explain(image: NDArray[np.float32], found: Found) -> Maps:
        return drise(lambda images: detect(network, images), image[0], found.boxes, found.labels, masks=copies)

    return explain


def explain_by_chance(image: NDArray[np.float32], found: Found) -> Maps:
    """Make a map of random values for each box."""
    return np.random.default_rng(0).random((len(found.boxes), *image.shape[2:]))


def measure(method: str, explain: Explain, network: nn.Module, scenes: Sequence[Scene]) -> Row:
    """Measure one method."""
    rows: list[tuple[float, float, float]] = []
    correlations: list[float] = []
    seconds = 0.0
    for scene in tqdm(scenes, desc=method, unit="scene"):
        image, found = PREPROCESS(scene.picture), find_boxes(network, scene)
        began = time.process_time()
        maps = explain(image, found)
        seconds += time.process_time() - began
        right = [number for number, is_right in enumerate(match(found, scene)) if is_right]
        rows += [judge(maps[number], found.boxes[number]) for number in right]
        correlations += correlate(maps[right], found.boxes[right])
    energy, chance, pointing = np.mean(rows, axis=0)
    return Row(
        method,
        len(rows),
        float(energy),
        float(chance),
        float(pointing),
        float(np.mean(correlations)),
        seconds / len(scenes),
    )


def judge(cam: Maps, box: NDArray[np.float32]) -> tuple[float, float, float]:
    """Compute a map's share inside its box, the box's share of the image, and whether the map is largest in the box."""
    rows, columns = np.mgrid[: cam.shape[0], : cam.shape[1]] + 0.5
    inside = (columns > box[0]) & (columns < box[2]) & (rows > box[1]) & (rows < box[3])
    if not inside.any() or cam.max() <= 0:
        return 0.0, float(inside.mean()), 0.0
    return float(compute_share_inside(cam, inside) or 0), float(inside.mean()), float(inside.flat[cam.argmax()])


def correlate(maps: Maps, boxes: NDArray[np.float32]) -> Iterable[float]:
    """Correlate the maps of each two boxes that lie apart."""
    for one, other in combinations(range(len(boxes)), 2):
        apart = intersection_over_union(boxes[one], boxes[other : other + 1])[0] < APART
        if apart and maps[one].std() > 0 and maps[other].std() > 0:
            yield float(np.corrcoef(maps[one].ravel(), maps[other].ravel())[0, 1])


def to_table(rows: Sequence[Row]) -> str:
    """Format the rows as Markdown."""
    lines = [
        "| method | boxes | energy in the box | chance | pointing game | correlation | CPU seconds |",
        "|" + "---|" * 7,
    ]
    lines += [
        f"| {row.method} | {row.boxes} | {row.energy:.2f} | {row.chance:.2f} | {row.pointing:.2f} | "
        f"{row.correlation:.2f} | {row.seconds:.3f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--copies", type=int, default=1000, help="of each scene that D-RISE explains")
    parser.add_argument("--copied-scenes", type=int, default=8, help="how many scenes D-RISE explains")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = load_detector().model
    scenes = list(islice(SceneMaker("test", seed=2), arguments.scenes))
    rows = [measure(method, explain_by(network, method), network, scenes) for method in METHODS]
    rows.append(measure("random", explain_by_chance, network, scenes))
    few = scenes[: arguments.copied_scenes]
    name = f"D-RISE, {arguments.copies} copies, {len(few)} scenes"
    rows.append(measure(name, explain_by_copies(network, arguments.copies), network, few))
    rows.append(measure(f"gradcam, {len(few)} scenes", explain_by(network, "gradcam"), network, few))
    print(json.dumps([asdict(row) for row in rows]) if arguments.json else to_table(rows))


if __name__ == "__main__":
    main()
