"""Trains the demo's detector on generated scenes, and scores it on scenes that it has not seen.

Usage: python examples/detector/train.py [--steps 110] [--round 0] [--out detector.safetensors] [--test-only]

Each round takes two minutes of one core. Round 0 begins with the weights of EfficientNet-Lite0; the others go on from
the file with other scenes and half the rate each. The demo's weights come from rounds 0, 1 and 2.
"""

import argparse
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from scenes import Scene, SceneMaker
from scoring import Found, score_detections
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from explainable_model.demo import efficientnet_lite0
from explainable_model.demo.detector import CLASSES, WEIGHTS, load_detector, make_detector

BATCH = 16
RATE, TRUNK_RATE = 3e-3, 4e-4  # the trunk is trained already, on ImageNet
FROZEN = 3  # stages that stay as they are


def start(network: nn.Module) -> None:
    """Copy the stages of the trained EfficientNet-Lite0."""
    trained = efficientnet_lite0().model
    trunk = network.backbone
    trunk.stem.load_state_dict(nn.Sequential(trained.conv_stem, trained.bn1).state_dict())
    trunk.stages.load_state_dict(trained.blocks[: len(trunk.stages)].state_dict())


def train(network: nn.Module, scenes: SceneMaker, steps: int, rate: float = 1.0) -> list[float]:
    """Train in place with torchvision's own losses, at a share of the usual rates; returns the loss of each step."""
    trunk = list(network.backbone.stages[FROZEN:].parameters())
    for frozen in (network.backbone.stem, network.backbone.stages[:FROZEN]):
        frozen.requires_grad_(False)
    others = [*network.backbone.pyramid.parameters(), *network.head.parameters()]
    groups = [{"params": trunk}, {"params": others}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [rate * TRUNK_RATE, rate * RATE], total_steps=steps, pct_start=0.1
    )
    network.train()
    network.backbone.eval()  # batches of 16 are too small for the statistics of the trunk
    losses = []
    for _ in (bar := tqdm(range(steps), desc="training", unit="step")):
        batch = list(islice(scenes, BATCH))
        targets = [
            {"boxes": torch.from_numpy(scene.boxes), "labels": torch.from_numpy(scene.labels)} for scene in batch
        ]
        loss = sum(network([as_image(scene) for scene in batch], targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*trunk, *others], 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
    network.eval()
    return losses


def as_image(scene: Scene) -> Tensor:
    """Make the image that torchvision's detectors take: ``(3, H, W)`` in [0, 1]."""
    return pil_to_tensor(scene.picture).float() / 255


@torch.no_grad()
def detect(network: nn.Module, scene: Scene) -> Found:
    """Find boxes, labels and scores in a scene."""
    (answer,) = network([as_image(scene)])
    return Found(answer["boxes"].numpy(), answer["labels"].numpy(), answer["scores"].numpy())


def save(network: nn.Module, path: Path) -> None:
    """Write the weights in float16, which halves the file; counters stay integers."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=110)
    parser.add_argument("--round", type=int, default=0)
    parser.add_argument("--scenes", type=int, default=300, help="to test with")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--test-only", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if not arguments.test_only:
        network = make_detector() if arguments.round == 0 else load_detector().model
        if arguments.round == 0:
            start(network)
        began = time.process_time()
        train(network, SceneMaker("train", arguments.round), arguments.steps, 0.5**arguments.round)
        save(network, arguments.out)
        print(f"{arguments.out}: trained in {time.process_time() - began:.0f} seconds of CPU")
    network = load_detector().model
    scenes = list(islice(SceneMaker("test", seed=1), arguments.scenes))
    pairs = [(detect(network, scene), scene) for scene in tqdm(scenes, desc="testing", unit="scene")]
    scores = score_detections(pairs, len(CLASSES))
    print(f"{len(scenes)} unseen scenes, all generated; boxes match from IoU 0.5 on:")
    for name, average in zip(CLASSES, scores.average_precision, strict=True):
        print(f"  {name}: average precision {average:.3f}")
    print(f"  mAP {scores.mean:.3f}; from score 0.5 on: precision {scores.precision:.3f}, recall {scores.recall:.3f}")


if __name__ == "__main__":
    main()
