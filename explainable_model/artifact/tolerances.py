"""How much two ways of computing the same explanation may differ: every tolerance of the library. Needs no torch."""

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
    "int8": Tolerance(logits=1e-2, cam=2e-2, rounding=7.9e-3),  # of one artifact's answers on two devices
}
"""By the coarsest dtype that the graph computes in."""

RUNTIME_TOLERANCES: Mapping[tuple[str, str], Tolerance] = {
    # Its CPU kernels round to float16 once where PyTorch's do after every operator: the network is the coarser one.
    ("onnx", "float16"): Tolerance(logits=4e-2, cam=1e-1, rounding=9.8e-4),
}
"""By key of ``FORMATS`` and dtype, for the runtimes that compute in another way than PyTorch."""


PHOTOS = Tolerance(logits=2e-3, cam=1e-2, rounding=1.2e-7)
"""At least, where a photo is resized in the graph: a value half-way between two levels goes to either."""


def tolerance_of(dtype: str, runtime: str = "torch", *, photos: bool = False) -> Tolerance:
    """What a runtime (a key of ``FORMATS``) may differ from the network in this dtype."""
    tolerance = RUNTIME_TOLERANCES.get((runtime, dtype), TOLERANCES[dtype])
    if not photos:
        return tolerance
    pairs = zip(astuple(tolerance), astuple(PHOTOS), strict=True)
    return Tolerance(*(max(pair) for pair in pairs))


@dataclass(frozen=True)
class AgreementBound:
    """How far an artifact of less precision must say the same as one in float32.

    Attributes:
        classes: smallest share of images whose predicted class is the same.
        correlation: smallest mean correlation of their maps.
    """

    classes: float
    correlation: float


AGREEMENTS: Mapping[str, AgreementBound] = {
    "float16": AgreementBound(classes=0.95, correlation=0.99),
    "int8": AgreementBound(classes=0.75, correlation=0.9),
}
"""By precision. Not the largest difference: where an activation is nearly zero a ReLU flips, and a map is a picture."""

# Some maps are less exact than the dtype: normalising one that is nearly constant magnifies its
# rounding, and where an activation is nearly zero the gradient of a ReLU flips with the last bit. How
# exact a map is, the network itself tells: by how much the map changes when the image changes by one
# rounding. The allowance is this many times that, for the roundings of all the layers.
NOISE_FACTOR = 16.0
NOISE_SAMPLES = 2
# A flip may hit the artifact in an image where it did not hit the network. Then the picture must still
# be much the same, and most other images must be within the allowance.
FLIP_CORRELATION = 0.95
FLIP_SHARE = 0.5

# The recorded answer to a fixed image is for devices with other kernels: this many times the tolerance.
DEVICE_FACTOR = 10.0
