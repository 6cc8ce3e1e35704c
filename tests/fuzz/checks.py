"""All comparisons of one case, and their verdicts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from explainable_model import LoweredModel
from explainable_model.errors import (
    CancelledMapWarning,
    DoubtfulPlacesWarning,
    ExplainableModelError,
    RepeatedLayerWarning,
    ZeroMapWarning,
)
from tests.fuzz.attention import TokenMixer
from tests.fuzz.cases import Case, Wrong
from tests.fuzz.eager import check_eager
from tests.fuzz.graphs import check_artifact, check_lowered

FORMATS = ("torchscript", "onnx")
# What the package refuses, and rightly: words of the error, and the method or target that it is about.
RIGHT_REFUSALS = {
    "needs average pooling and a linear classifier behind": ("cam",),
    "needs tokens (N, T, K)": ("vitreciprocam",),
    "compares classes; a target of one's own": ("finercam",),
    "needs second derivatives, and PyTorch has none": ("shapleycam",),
    "FullGrad adds up the biases of all operators": ("fullgrad",),
    "has no attention over tokens": ("legrad", "rollout", "chefer", "agcam", "gradeclip"),
    "reads the attention of the class token, and this network has none": ("gradeclip",),
    "is no product of queries and keys whose softmax is multiplied by values": ("gradeclip",),
    "LeGrad needs two blocks with attention or more": ("legrad",),
}
# PyTorch's exporter refuses the network itself, where the grid does not divide the size.
NO_ONNX = "No ONNX function found for <OpOverload(op='aten.adaptive_max_pool"
# Where a block mixes tokens without attention, attention is not all that moves evidence between tokens.
MIXED = "reads the attention over all tokens"


@dataclass
class Outcome:
    """What happened to one case.

    Attributes:
        seed: of the case.
        method: of the case.
        stages: by stage (``eager``, ``finish``, ``lowered``, or a format), ``equal``, ``undefined: ...``,
            ``refused: ...``, ``flipped`` or ``wrong: ...``.
        case: the case in words, where a stage is wrong.
    """

    seed: int
    method: str
    stages: dict[str, str] = field(default_factory=dict)
    case: str = ""

    @property
    def wrong(self) -> dict[str, str]:
        """The stages that are open."""
        return {stage: verdict for stage, verdict in self.stages.items() if verdict.startswith("wrong")}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_case(case: Case, formats: Sequence[str] = FORMATS, *, lowers: bool = True) -> Outcome:
    """Make every comparison of a case."""
    outcome = Outcome(case.seed, case.method)
    with warnings.catch_warnings():
        for expected in (ZeroMapWarning, CancelledMapWarning, RepeatedLayerWarning, DoubtfulPlacesWarning):
            warnings.simplefilter("ignore", expected)
        if _stage(outcome, "eager", case, lambda: check_eager(case)) and lowers:
            graphs: list[LoweredModel] = []
            if _stage(outcome, "lowered", case, lambda: check_lowered(case, graphs)):
                for name in formats:
                    _stage(outcome, name, case, lambda name=name: check_artifact(case, name, graphs[0]))
    if outcome.wrong:
        outcome.case = case.describe()
    return outcome


def _returns_channels_as_tokens(case: Case) -> bool:
    """Whether the layer is the product of a mixer over tokens, ``(N, K, tokens)``."""
    owner = (case.layer or "").rpartition(".")[0]
    return isinstance(case.network.module.get_submodule(owner), TokenMixer)


def _stage(outcome: Outcome, stage: str, case: Case, check: Callable[[], str]) -> bool:
    """Make one comparison and note its verdict; whether the next may follow."""
    try:
        outcome.stages[stage] = check()
        return True
    except Wrong as error:
        outcome.stages[stage] = f"wrong: {error}"
    except ExplainableModelError as error:
        words = " ".join(str(error).split())
        right = any(known in words and case.method in methods for known, methods in RIGHT_REFUSALS.items())
        right |= MIXED in words and any(isinstance(part, TokenMixer) for part in case.network.module.modules())
        right |= stage == "onnx" and NO_ONNX in words
        right |= "has no spatial map" in words and _returns_channels_as_tokens(case)
        outcome.stages[stage] = (
            f"refused: {words[:300]}" if right else f"wrong: refused {type(error).__name__}: {words[:600]}"
        )
    except Exception as error:
        outcome.stages[stage] = f"wrong: {type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return stage == "lowered" and not outcome.stages[stage].startswith(("refused", "wrong: refused"))
