"""Trains the classifier on crops of a real radiograph and on generated ones, with *simulated* opacities.

Usage: python examples/xray/train.py [--steps 300] [--out examples/xray/weights.safetensors]
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits
from tqdm import tqdm
from xray_films import Case, Gray, iterate_cases, read_radiograph
from xray_network import PREPARATION, WEIGHTS, XrayNetwork

BATCH = 16
RATE, HEAD_RATE = 2e-3, 1e-4  # the head sums 16,384 values, so a small step of its weights moves the answer far
CELLS = 8  # the last block has 8 x 8 cells of 32 x 32 pixels
COVERED = 0.2  # share of a cell that an opacity covers at least


def train(network: XrayNetwork, cases: Iterator[Case], steps: int) -> list[float]:
    """Train in place; returns the loss of each step.

    A second head, which is thrown away afterwards, tells for each cell whether an opacity lies there. With 64 answers a
    film instead of one, minutes are enough.
    """
    guide = torch.nn.Conv2d(network.head[0].in_channels, 1, 1)
    groups = [{"params": [*network.blocks.parameters(), *guide.parameters()]}, {"params": network.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps, pct_start=0.2)
    losses = []
    network.train()
    for _ in (bar := tqdm(range(steps), desc="training", unit="step")):
        images, labels, cells = make_batch(cases, BATCH)
        features = network.blocks(images)
        logits = network.head(features).flatten()  # before the sigmoid, which would lose digits
        loss = binary_cross_entropy_with_logits(logits, labels)
        guided = binary_cross_entropy_with_logits(guide(features).squeeze(1), cells, pos_weight=torch.tensor(8.0))
        optimizer.zero_grad()
        (loss + guided).backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}", cells=f"{guided.item():.3f}")
    network.eval()
    return losses


def make_batch(cases: Iterator[Case], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Prepare the next cases: images ``(count, 3, 256, 256)``, labels ``(count,)``, cells ``(count, 8, 8)``."""
    batch = list(islice(cases, count))
    images = torch.from_numpy(np.concatenate([PREPARATION(case.film) for case in batch]))
    masks = torch.from_numpy(np.stack([case.mask for case in batch])).float()
    cells = (adaptive_avg_pool2d(masks, CELLS) >= COVERED).float()
    return images, torch.tensor([float(case.is_opaque) for case in batch]), cells


@torch.no_grad()
def measure_accuracy(network: XrayNetwork, cases: Iterator[Case], count: int) -> dict[str, float]:
    """Share of right answers at a probability of one half, by the origin of the film."""
    right: dict[str, list[bool]] = {}
    for case in tqdm(islice(cases, count), total=count, desc="testing", unit="film"):
        probability = network(torch.from_numpy(PREPARATION(case.film))).item()
        right.setdefault(case.origin, []).append((probability > 0.5) == case.is_opaque)
    return {origin: float(np.mean(answers)) for origin, answers in sorted(right.items())}


def save(network: XrayNetwork, path: Path) -> None:
    """Write the weights in float16, which halves the file; counters stay integers."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    save_file({key: value.contiguous() for key, value in state.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    film: Gray = read_radiograph()
    network = XrayNetwork()
    train(network, iterate_cases("train", 0, film, chests=60), arguments.steps)
    save(network, arguments.out)
    accuracy = measure_accuracy(network, iterate_cases("test", 1, film), 200)
    shares = ", ".join(f"{share:.1%} of the {origin} films" for origin, share in accuracy.items())
    print(f"{arguments.out}: right about {shares}, which it had not seen; all opacities are simulated")


if __name__ == "__main__":
    main()
