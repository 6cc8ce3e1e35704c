"""A detector as a network whose output is a fixed number of boxes."""

from functools import partial

import torch
from torch import Tensor, nn

from explainable_model.attribution.boxes import BoxScore, RankedBoxes
from explainable_model.detection.candidates import COORDINATES, Candidates
from explainable_model.detection.choice import choose_boxes, match_boxes
from explainable_model.detection.family import Family, Tap
from explainable_model.errors import ModelError


class DetectionNetwork(nn.Module):
    """Runs a detector, chooses its boxes, and returns what is explained of each.

    Args:
        network: the detector, in evaluation mode.
        family: says what its candidates are.
        target: how boxes are chosen, and what is explained.
    """

    def __init__(self, network: nn.Module, family: Family, target: BoxScore) -> None:
        super().__init__()
        self.network = network
        self.levels = nn.ModuleList(nn.Identity() for _ in range(family.levels(network)))
        self.family, self.target = family, target
        self.only_windows = True  # another layer may lie in the head, which then runs once more
        self.training = network.training
        self.levels.eval()

    @property
    def network_name(self) -> str:
        """The class of the detector, which a user knows."""
        return type(self.network).__name__

    @property
    def layer_aliases(self) -> dict[str, str]:
        """The names of the detector's own layers, which a user knows, and their names in this module."""
        return {name: f"network.{name}" for name, _ in self.network.named_modules() if name}

    def forward(self, image: Tensor) -> RankedBoxes:
        """The boxes of ``image`` ``(N, C, H, W)``."""
        candidates = self.family.candidates(self.network, image, Tap(self.levels, self.only_windows))
        with torch.no_grad():
            places, table = choose_boxes(candidates, self.target)
        explain = partial(_explained, candidates, self.target.score)
        return RankedBoxes(table, places, explain, partial(match_boxes, candidates, self.target))


def _explained(candidates: Candidates, score: str, places: Tensor) -> Tensor:
    """``(N, k)``: what is explained of the candidates at these places."""
    if score in COORDINATES and candidates.coordinates is not None:
        return candidates.coordinates(places)[..., COORDINATES.index(score)]
    if score in candidates.explained:
        return candidates.explained[score](places)
    known = [*candidates.explained, *(COORDINATES if candidates.coordinates is not None else ())]
    raise ModelError(f"box_score is {score!r}; this detector has: {', '.join(known)}.")
