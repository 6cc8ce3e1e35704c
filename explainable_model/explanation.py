"""What every explainer returns, and the names that artifacts use for it. Imports nothing heavy."""

from typing import Generic, NamedTuple, TypeVar

ArrayT = TypeVar("ArrayT")

IMAGE = "image"
CLASS_IDX = "class_idx"
LOGITS = "logits"
CAM = "cam"

EXPLAINED_CLASS_IDX = "explained_class_idx"  # ONNX lets no output share the name of an input

OUTPUT_NAMES = (LOGITS, EXPLAINED_CLASS_IDX, CAM)


def input_names(extra: int) -> list[str]:
    """Names of an artifact's inputs: ``image``, ``class_idx``, and ``input_0`` and so on for the extra ones."""
    return [IMAGE, CLASS_IDX, *(f"input_{n}" for n in range(extra))]


PREDICTED = -1
"""The class index that stands for "the class the network predicts"."""

IMAGE_LAYER = ""
"""The name of the image, where it is listened to like a layer."""


class Explanation(NamedTuple, Generic[ArrayT]):
    """A prediction and the class activation map that explains it.

    ``ArrayT`` is ``torch.Tensor`` from the eager and lowered modules and ``numpy.ndarray`` from a
    loaded artifact.

    Attributes:
        logits: the network's own output, unchanged, e.g. ``(N, classes)``.
        class_idx: ``(N,)`` int64, the class that was explained; ``(N, k)`` with ``top_k=k``.
        cam: ``(N, H, W)`` in ``[0, 1]`` at image size; ``(N, k, H, W)`` with ``top_k=k``; ``(N, h, w)``
            without upsampling, and unbounded above without normalisation.
    """

    logits: ArrayT
    class_idx: ArrayT
    cam: ArrayT


ATTENTION_LAYERS = "@attention"
"""Stands for the attention probabilities of every block."""
