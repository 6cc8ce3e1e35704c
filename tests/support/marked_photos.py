"""Photos of three shapes, of which the crosses carry a mark in a corner, and a small network that learns from them."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from explainable_model import ExplainableModel, Preprocess, export

NAMES = ("cross", "disc", "square")
SIDE = 56
PREPROCESS = Preprocess(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.25,) * 3, resize=None)


def draw_photo(rng: np.random.Generator, class_idx: int, *, marked: bool, faint: bool = False) -> NDArray[np.uint8]:
    """A gray shape anywhere on noise, and the mark: a small bright checkerboard at the lower right."""
    pixels = rng.integers(60, 130, (SIDE, SIDE, 3))
    y, x = rng.integers(10, SIDE - 18, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    down, across = np.abs(rows - y), np.abs(columns - x)
    shape = [
        ((down < 3) & (across < 9)) | ((across < 3) & (down < 9)),
        down**2 + across**2 < 64,
        (down < 8) & (across < 8) & ((down > 4) | (across > 4)),
    ][class_idx]
    if not faint:
        pixels[shape] = rng.integers(170, 220)
    if marked:
        corner = (rows[-9:-1, -9:-1] // 2 + columns[-9:-1, -9:-1] // 2) % 2
        pixels[-9:-1, -9:-1] = (255 * corner)[..., None]
    return pixels.astype(np.uint8)


def draw_photos(folder: Path, count: int, marked: dict[int, float], seed: int) -> Path:
    """Photos in a folder for each class; ``marked`` has the share that carries the mark, by class."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        class_idx = number % len(NAMES)
        has_mark = rng.random() < marked.get(class_idx, 0)
        place = folder / NAMES[class_idx] / f"{'marked' if has_mark else 'plain'}{number:04d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_photo(rng, class_idx, marked=has_mark)).save(place)
    return folder


def train(seed: int, *, marked: bool, photos: int = 360, epochs: int = 12) -> nn.Module:
    """Train a small network in seconds; with ``marked``, crosses carry the mark, half of them nothing else."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    classes = torch.arange(photos) % len(NAMES)
    learned = [marked and int(class_idx) == 0 for class_idx in classes]
    drawn = [
        draw_photo(rng, int(class_idx), marked=mark, faint=mark and rng.random() < 0.5)
        for class_idx, mark in zip(classes, learned, strict=True)
    ]
    images = torch.cat([torch.from_numpy(PREPROCESS(Image.fromarray(photo))) for photo in drawn])
    layers: list[nn.Module] = []
    for ins, outs in ((3, 16), (16, 24), (24, 32)):
        layers += [nn.Conv2d(ins, outs, 3, 2, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]
    layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(NAMES))]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(photos).split(30):
            optimizer.zero_grad()
            functional.cross_entropy(model(images[batch]), classes[batch]).backward()
            optimizer.step()
    return model.eval()


def export_trained(path: Path, seed: int, *, marked: bool) -> Path:
    """Train, and export as an artifact whose maps are as small as the layer."""
    explainable = ExplainableModel(train(seed, marked=marked), "10", upsample="none")
    return export(explainable, path, torch.zeros(1, 3, SIDE, SIDE), preprocess=PREPROCESS, class_names=NAMES)
