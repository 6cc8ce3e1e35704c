"""Trains the classifier on crops of a real radiograph and on generated ones, with *simulated* opacities.

Usage: python examples/xray/train.py [--steps 600] [--out examples/xray/weights.safetensors]
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm
from xray_films import Case, Gray, iterate_cases, read_radiograph
from xray_network import PREPARATION, WEIGHTS, XrayNetwork

BATCH = 16
RATE, HEAD_RATE = 2e-3, 3e-5  # the head sums 16,384 values, so a small step of its weights moves the answer far


def train(network: XrayNetwork, cases: Iterator[Case], steps: int) -> list[float]:
    """Train in place; returns the loss of each step."""
    groups = [{"params": network.blocks.parameters()}, {"params": network.head.parameters()}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [RATE, HEAD_RATE], total_steps=steps)
    losses = []
    network.train()
    for _ in (bar := tqdm(range(steps), desc="training", unit="step")):
        images, labels = make_batch(cases, BATCH)
        logits = network.head(network.blocks(images)).flatten()  # before the sigmoid, which would lose digits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{np.mean(losses[-20:]):.3f}")
    network.eval()
    return losses


def make_batch(cases: Iterator[Case], count: int) -> tuple[Tensor, Tensor]:
    """Prepare the next cases: ``(count, 3, 256, 256)`` images and ``(count,)`` labels."""
    batch = list(islice(cases, count))
    images = torch.from_numpy(np.concatenate([PREPARATION(case.film) for case in batch]))
    return images, torch.tensor([float(case.is_opaque) for case in batch])


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
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    film: Gray = read_radiograph()
    network = XrayNetwork()
    train(network, iterate_cases("train", 0, film, chests=60), arguments.steps)
    save(network, arguments.out)
    accuracy = measure_accuracy(network, iterate_cases("test", 1, film), 400)
    shares = ", ".join(f"{share:.1%} of the {origin} films" for origin, share in accuracy.items())
    print(f"{arguments.out}: right about {shares}, which it had not seen; all opacities are simulated")


if __name__ == "__main__":
    main()
