"""The node tests of the onnx package, run by the reader."""

from collections import Counter

from explainable_model.errors import ModelError
from tests.support.onnx_cases import check_case, node_cases

# What is no part of a trained network's evaluation, or what PyTorch has no type for; each is refused with its reason.
REFUSED = (
    "which the reader does not know",  # unsigned integers of more than 8 bits, text
    "Attention with",
    "training mode",
    "from the values of the image",  # the package computes shapes from inputs
    "Resize",
    "ScatterND",
    "returns indices",
    "scales of blocks",
)
# These differ from the package's reference. A file whose outputs differ from ONNX Runtime's is refused as a whole.
DIFFERENT = (
    "top_k_same_values",  # indices of equal values, in no order that torch promises
    "antialias",  # at the border, where the package repeats pixels that Pillow leaves out
    "align_corners",  # by scales that give no whole size
    "quantizelinear",  # the reader keeps what the integers stand for
    "empty_set",
    "PReLU",  # opset 6, which the reader refuses
    "flexattention",
)


def test_the_packages_own_tests() -> None:
    counts: Counter[str] = Counter()
    wrong = []
    for case in node_cases():
        try:
            check_case(case)
        except ModelError as error:
            known = any(reason in str(error) for reason in REFUSED)
            counts["refused" if known else "other"] += 1
            wrong += [] if known else [f"{case.name}: {error}"]
        except Exception as error:
            known = any(word in case.name for word in DIFFERENT)
            counts["different" if known else "other"] += 1
            wrong += [] if known else [f"{case.name}: {type(error).__name__} {str(error)[:200]}"]
        else:
            counts["passed"] += 1
    assert not wrong, "\n".join(wrong)
    assert counts["passed"] >= 1188, counts
