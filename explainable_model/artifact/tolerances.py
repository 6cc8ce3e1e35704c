"""How much two computations of one explanation may differ: every tolerance of the library. Needs no torch."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class Tolerance:
    """How much two runtimes may differ.

    Attributes:
        logits: largest difference, in units of the largest logit.
        cam: largest difference of a map, in units of its range.
        rounding: unit of rounding of the dtype.
    """

    logits: float
    cam: float
    rounding: float


TOLERANCES: Mapping[str, Tolerance] = {
    "float64": Tolerance(logits=1e-10, cam=1e-9, rounding=2.3e-16),
    "float32": Tolerance(logits=1e-4, cam=1e-4, rounding=1.2e-7),
    "float16": Tolerance(logits=2e-2, cam=5e-2, rounding=9.8e-4),
    "bfloat16": Tolerance(logits=1e-1, cam=2e-1, rounding=7.9e-3),
    "int8": Tolerance(logits=1e-2, cam=2e-2, rounding=7.9e-3),  # between two devices that run the same artifact
}
"""By the coarsest dtype that the graph computes in."""

RUNTIME_TOLERANCES: Mapping[tuple[str, str], Tolerance] = {
    # ONNX Runtime's CPU kernels round to float16 once, PyTorch's after every operator.
    ("onnx", "float16"): Tolerance(logits=4e-2, cam=1e-1, rounding=9.8e-4),
}
"""By key of ``FORMATS`` and dtype, for runtimes that round in other places than PyTorch."""


PHOTOS = Tolerance(logits=2e-3, cam=1e-2, rounding=1.2e-7)
"""The least tolerance where the graph resizes a photo: a value half-way between two levels may round to either."""


def tolerance_of(dtype: str, runtime: str = "torch", *, photos: bool = False) -> Tolerance:
    """How much a runtime (a key of ``FORMATS``) may differ from the network in this dtype."""
    tolerance = RUNTIME_TOLERANCES.get((runtime, dtype), TOLERANCES[dtype])
    if not photos:
        return tolerance
    pairs = zip(astuple(tolerance), astuple(PHOTOS), strict=True)
    return Tolerance(*(max(pair) for pair in pairs))


@dataclass(frozen=True)
class AgreementBound:
    """How far an artifact in less precision must agree with the one in float32.

    Attributes:
        classes: smallest share of images whose predicted class is the same.
        correlation: smallest mean correlation of their maps.
        usual_classes: a smaller share than this one gives a warning.
    """

    classes: float
    correlation: float
    usual_classes: float = 0.95


AGREEMENTS: Mapping[str, AgreementBound] = {
    "float16": AgreementBound(classes=0.95, correlation=0.99),
    "int8": AgreementBound(classes=0.75, correlation=0.9),
}
"""By precision. The largest difference is not bounded: a ReLU flips where an activation is nearly zero."""

# Some maps are less exact than their dtype. Normalization magnifies the rounding of a map that is nearly constant, and
# the gradient of a ReLU flips with the last bit of an activation that is nearly zero. Verification measures how much
# the network's own map changes when the image changes by one rounding; an artifact may differ by this many times that.
NOISE_FACTOR = 16.0
NOISE_SAMPLES = 2
# A ReLU may flip in the artifact and not in the network. Then the two maps must still correlate by FLIP_CORRELATION,
# and at most the share FLIP_SHARE of all images may be of that kind.
FLIP_CORRELATION = 0.95
FLIP_SHARE = 0.5

# A device may differ from the recorded answer by this many times the tolerance, since its kernels differ.
DEVICE_FACTOR = 10.0
