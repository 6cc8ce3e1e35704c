"""Refuse an artifact that disagrees with its network."""

from typing import TYPE_CHECKING

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.runner import Runner
from explainable_model.errors import VerificationError
from explainable_model.verify.detections import NO_BOX, check_detections
from explainable_model.verify.parity import ZERO_MAPS, Parity, check_parity

if TYPE_CHECKING:
    from explainable_model.lowering.lowered import LoweredModel
    from explainable_model.model import ExplainableModel


def require_parity(
    explainable: "ExplainableModel | LoweredModel", lowered: "LoweredModel", metadata: Metadata, runner: Runner
) -> Parity:
    """Compare as ``check_parity``, of a detector as ``check_detections``, and refuse an artifact that disagrees.

    Raises:
        VerificationError: the artifact disagrees; the message says in what and by how much.
    """
    has_boxes = metadata.detection is not None
    check = check_detections if has_boxes else check_parity
    parity = check(explainable, lowered, metadata, runner)
    if not parity.passed:
        verdict = "was not verified" if parity.reason in (ZERO_MAPS, NO_BOX) else "disagrees with the network"
        raise VerificationError(
            f"The {metadata.format} artifact of {metadata.model} at {metadata.target_layer!r} {verdict}: "
            f"{parity.reason}. Nothing was written."
        )
    return parity
