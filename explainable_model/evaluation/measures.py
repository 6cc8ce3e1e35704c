"""The table of measures: what each computes, its range, which direction is better, and where it comes from."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from explainable_model.evaluation import curves, localization, stability
from explainable_model.evaluation.curves import Floats, Image, Predict
from explainable_model.evaluation.localization import Mask
from explainable_model.evaluation.subject import Explanations


@dataclass
class Case:
    """One photo, one class, one map: what a measure sees.

    Attributes:
        image: ``(C, H, W)`` float32, prepared.
        class_idx: the explained class.
        cam: ``(H, W)``.
        predict: the score of the class, ``(N, C, H, W)`` to ``(N,)``.
        explain: the map of any class of any image.
        other_class: a class that is not explained; ``None`` where there is one class.
        mask: ``(H, W)``, where the class is to be seen; ``None`` for unknown.
        explain_randomized: the map by a copy of the network with random weights; ``None`` without a network.
        seed: of everything that is drawn.
    """

    image: Image
    class_idx: int
    cam: Floats
    predict: Predict
    explain: Explanations
    other_class: int | None = None
    mask: Mask | None = None
    explain_randomized: Explanations | None = None
    seed: int = 0

    def rng(self, measure: str) -> np.random.Generator:
        """A generator that depends on the seed and the measure alone, not on which measures ran before."""
        return np.random.default_rng([self.seed, zlib.crc32(measure.encode())])

    def explain_same(self, image: Image) -> Floats:
        """The map of the explained class for another image."""
        return self.explain(image, self.class_idx)

    @cached_property
    def drop(self) -> float:
        """See ``average_drop``."""
        return stability.average_drop(self.predict, self.image, self.cam)

    @cached_property
    def coherency(self) -> float:
        """See ``coherency``."""
        return stability.coherency(self.explain_same, self.image, self.cam)


Need = Literal["mask", "network", "mosaic"]


@dataclass(frozen=True)
class Measure:
    """One row of ``MEASURES``.

    Attributes:
        name: its key.
        run: computes the value of one case; ``None`` where it is undefined. Measures of mosaics have no ``run``.
        formula: in a line.
        range: smallest and largest value; ``None`` for no bound. The score is a probability.
        better: ``larger``, ``smaller``, or ``neither``, where the value only describes the map.
        source: the paper.
        needs: masks, the network, or mosaics of several photos; ``None`` for nothing but the photo.
    """

    name: str
    run: Callable[[Case], float | None] | None
    formula: str
    range: tuple[float | None, float | None]
    better: Literal["larger", "smaller", "neither"]
    source: str
    needs: Need | None = None


def _class_sensitivity(case: Case) -> float | None:
    if case.other_class is None:
        return None
    return stability.correlate_ranks(case.cam, case.explain(case.image, case.other_class))


def _randomization(case: Case) -> float | None:
    assert case.explain_randomized is not None  # the caller refuses the measure without a network
    return stability.correlate_ranks(case.cam, case.explain_randomized(case.image, case.class_idx))


def _with_mask(function: Callable[[Floats, Mask], float | None]) -> Callable[[Case], float | None]:
    return lambda case: None if case.mask is None else function(case.cam, case.mask)


_ROWS = (
    Measure(
        "insertion",
        lambda case: curves.insertion(case.predict, case.image, case.cam, case.rng("insertion")),
        "area under the score while pixels of a blurred image become sharp, those with the largest map first",
        (0, 1),
        "larger",
        "Petsiuk et al. 2018, arXiv 1806.07421",
    ),
    Measure(
        "deletion",
        lambda case: curves.deletion(case.predict, case.image, case.cam, case.rng("deletion")),
        "area under the score while pixels become the image's mean, those with the largest map first",
        (0, 1),
        "smaller",
        "Petsiuk et al. 2018, arXiv 1806.07421",
    ),
    Measure(
        "pixel_flipping",
        lambda case: curves.deletion(case.predict, case.image, case.cam, case.rng("pixel_flipping"), baseline="zero"),
        "area under the score while pixels become zero, those with the largest map first",
        (0, 1),
        "smaller",
        "Bach et al. 2015, doi 10.1371/journal.pone.0130140",
    ),
    Measure(
        "road",
        lambda case: curves.road(case.predict, case.image, case.cam, case.rng("road")),
        "half of: score without the least important pixels - score without the most important ones; both imputed",
        (-0.5, 0.5),
        "larger",
        "Rong et al. 2022, arXiv 2202.00449",
    ),
    Measure(
        "average_drop",
        lambda case: case.drop,
        "max(0, y - y_masked) / y, the image multiplied by its map",
        (0, 1),
        "smaller",
        "Chattopadhyay et al. 2018, arXiv 1710.11063",
    ),
    Measure(
        "increase",
        lambda case: stability.increase(case.predict, case.image, case.cam),
        "1 where y_masked > y, the image multiplied by its map",
        (0, 1),
        "larger",
        "Chattopadhyay et al. 2018, arXiv 1710.11063",
    ),
    Measure(
        "coherency",
        lambda case: case.coherency,
        "(1 + correlation of the map with the map of the image multiplied by it) / 2",
        (0, 1),
        "larger",
        "Poppi et al. 2021, arXiv 2104.10252",
    ),
    Measure(
        "complexity",
        lambda case: stability.complexity(case.cam),
        "mean of the map",
        (0, 1),
        "smaller",
        "Poppi et al. 2021, arXiv 2104.10252",
    ),
    Measure(
        "adcc",
        lambda case: stability.adcc(case.drop, case.coherency, stability.complexity(case.cam)),
        "harmonic mean of coherency, 1 - complexity and 1 - average_drop",
        (0, 1),
        "larger",
        "Poppi et al. 2021, arXiv 2104.10252",
    ),
    Measure(
        "sparseness",
        lambda case: stability.sparseness(case.cam),
        "Gini index of the map",
        (0, 1),
        "neither",
        "Chalasani et al. 2020, arXiv 1810.06583",
    ),
    Measure(
        "max_sensitivity",
        lambda case: stability.max_sensitivity(case.explain_same, case.image, case.cam, case.rng("max_sensitivity")),
        "largest |E(x + d) - E(x)| / |E(x)| of 10 d within 2 % of the image's range",
        (0, None),
        "smaller",
        "Yeh et al. 2019, arXiv 1901.09392",
    ),
    Measure(
        "infidelity",
        lambda case: stability.infidelity(case.predict, case.image, case.cam, case.rng("patches")),
        "share of the square of the lost score that the map's sum over random patches does not predict",
        (0, 1),
        "smaller",
        "Yeh et al. 2019, arXiv 1901.09392",
    ),
    Measure(
        "faithfulness_correlation",
        lambda case: stability.faithfulness_correlation(case.predict, case.image, case.cam, case.rng("patches")),
        "correlation of the map's sum over random patches with the score lost without them",
        (-1, 1),
        "larger",
        "Bhatt et al. 2020, arXiv 2005.00631",
    ),
    Measure(
        "class_sensitivity",
        _class_sensitivity,
        "rank correlation with the map of another class, drawn at random; 1 says that the class does not matter",
        (-1, 1),
        "smaller",
        "Adebayo et al. 2018, arXiv 1810.03292, with classes instead of labels",
    ),
    Measure(
        "randomization",
        _randomization,
        "rank correlation with the map of the network with random weights; 1 says that training does not matter",
        (-1, 1),
        "smaller",
        "Adebayo et al. 2018, arXiv 1810.03292",
        "network",
    ),
    Measure(
        "pointing_game",
        _with_mask(localization.pointing_game),
        "1 where the map is largest inside the mask, or within 15 pixels of it in 224",
        (0, 1),
        "larger",
        "Zhang et al. 2016, arXiv 1608.00507",
        "mask",
    ),
    Measure(
        "energy_in_mask",
        _with_mask(localization.energy_in_mask),
        "sum of the map inside the mask / sum of the map",
        (0, 1),
        "larger",
        "Wang et al. 2020, arXiv 1910.01279",
        "mask",
    ),
    Measure(
        "iou",
        _with_mask(localization.intersection_over_union),
        "overlap of the mask with the map from half of its maximum on",
        (0, 1),
        "larger",
        "Zhou et al. 2016, arXiv 1512.04150, with masks instead of boxes",
        "mask",
    ),
    Measure(
        "grid_pointing",
        None,
        "share of a class's map in its own photo of a mosaic of four; chance is 0.25",
        (0, 1),
        "larger",
        "Böhle et al. 2021, arXiv 2104.00032",
        "mosaic",
    ),
    Measure(
        "discrimination",
        None,
        "how often a photo in a mosaic holds more of its own class's map than of another's; chance is 0.5",
        (0, 1),
        "larger",
        "pairs of the grid pointing game",
        "mosaic",
    ),
)

MEASURES: dict[str, Measure] = {row.name: row for row in _ROWS}
"""Measures by name."""

USUAL = (
    "insertion",
    "deletion",
    "road",
    "average_drop",
    "increase",
    "adcc",
    "class_sensitivity",
    "grid_pointing",
    "discrimination",
)
"""What is measured where nobody asks for something else; measures of masks are added where there are masks."""
