"""Compares maps with the known masks of *simulated* opacities, beside maps that know nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from xray_films import SIDE, Case, Gray, Mask

Explain = Callable[[Case], Gray]  # a map of 256 x 256 values in [0, 1]


def compute_iou(cam: Gray, mask: Mask) -> float:
    """Overlap of the mask with as many of the map's largest values as the mask has pixels, over their union."""
    order = np.argsort(-cam, axis=None, kind="stable")
    chosen = np.zeros(cam.size, bool)
    chosen[order[: int(mask.sum())]] = True
    inside = mask.ravel()
    return float((chosen & inside).sum() / (chosen | inside).sum())


def hits(cam: Gray, mask: Mask) -> bool:
    """Whether the largest value lies in the mask: the pointing game, without a tolerance."""
    return bool(mask.ravel()[int(cam.argmax())])


def score(explainers: Mapping[str, Explain], cases: Iterable[Case]) -> dict[str, dict[str, float]]:
    """Score each way to make a map on the cases that have an opacity.

    Returns:
        ``iou`` and ``pointing``, means over the cases, by name; ``films``, how many they are.
    """
    rows: dict[str, list[tuple[float, bool]]] = {name: [] for name in explainers}
    for case in (case for case in cases if case.is_opaque):
        for name, explain in explainers.items():
            cam = explain(case)
            rows[name].append((compute_iou(cam, case.mask), hits(cam, case.mask)))
    return {name: _average(found) for name, found in rows.items()}


def make_baselines(seed: int = 0) -> dict[str, Explain]:
    """A map of smooth noise and a map of the center: what a method must beat."""
    from xray_films import make_clouds

    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32) - (SIDE - 1) / 2
    center: NDArray[np.float32] = np.exp(-(rows**2 + columns**2) / (2 * (SIDE / 4) ** 2))
    return {"random": lambda case: make_clouds(random, SIDE, 8), "center": lambda case: center}


def print_scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Write the scores as a table."""
    films = next(iter(scores.values()))["films"]
    lines = [f"{'map':<12} IoU    pointing game   ({films:.0f} films with a simulated opacity)"]
    lines += [f"{name:<12} {row['iou']:.2f}   {row['pointing']:.0%}" for name, row in scores.items()]
    return "\n".join(lines)


def _average(rows: Sequence[tuple[float, bool]]) -> dict[str, float]:
    overlaps, pointed = zip(*rows, strict=True)
    return {"iou": float(np.mean(overlaps)), "pointing": float(np.mean(pointed)), "films": float(len(rows))}
