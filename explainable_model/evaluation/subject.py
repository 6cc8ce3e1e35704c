"""What is measured: a network or an artifact as a function of prepared images."""

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.shapes import NHW, NHWC
from explainable_model.errors import InputError
from explainable_model.evaluation.curves import Floats, Image, Predict
from explainable_model.explainer.explainer import Explainer
from explainable_model.explanation import to_probabilities
from explainable_model.imaging.as_decoded import AsDecoded

CENTER_SIGMA = 0.25  # of the image's size

Explanations = Callable[[Image, int], Floats]
"""``(C, H, W)`` and a class to ``(H, W)``."""


@dataclass(frozen=True)
class Subject:
    """A network or an artifact, which predicts images of shape ``(C, H, W)`` whatever the layout that it takes.

    Attributes:
        explainer: what is measured.
    """

    explainer: Explainer

    def prepare(self, picture: Any) -> Image:
        """Turn a photo into ``(C, H, W)`` float32: normalized, or as it is where the artifact prepares photos."""
        image: NDArray[Any] = self.explainer.preprocess(picture)[0]
        if self._pixels == NHW:
            image = image[None]
        return (image.transpose(2, 0, 1) if self._pixels == NHWC else image).astype(np.float32)

    def predict(self, images: NDArray[np.float32]) -> Floats:
        """Predict ``(N, C, H, W)``.

        Returns:
            ``(N, classes)``: probabilities where the output has any, else the network's own scores.

        Raises:
            InputError: an output of more than one value per class.
        """
        output = np.asarray(self.explainer.predict(self._restore(images)), np.float64)
        scores = output.reshape(len(images), -1)
        if output.ndim > 2 and scores.shape[1] != output.shape[1]:
            raise InputError(
                f"The output has shape {output.shape[1:]}; the measures read one value per class, as of a classifier."
            )
        kind = self.explainer.output_kind
        if kind not in (None, "scores"):
            scores = np.asarray(to_probabilities(scores, kind))
        if scores.shape[1] == 1 and self.explainer.classes == 2:
            other = -scores if kind in (None, "scores") else 1 - scores
            scores = np.concatenate([other, scores], 1)
        return scores

    def explain(self, image: Image, class_idx: int) -> Floats:
        """Explain one class of ``(C, H, W)``.

        Returns:
            ``(H, W)``, of the image's size.
        """
        return self.answer(image, class_idx)[1]

    def answer(self, image: Image, class_idx: int | None = None) -> tuple[int, Floats]:
        """The explained class and its map; ``None`` stands for the predicted class."""
        classes = None if class_idx is None else np.asarray([class_idx], np.int64)
        answer = self.explainer.run(self._restore(image[None]), classes)
        explained = int(np.ravel(answer.class_idx[0])[0])
        cam = np.asarray(answer.cam[0], np.float64)
        if answer.class_idx.ndim == 2:
            cam = cam[0]
        return explained, resize(cam, (image.shape[1], image.shape[2]))

    def score(self, class_idx: int) -> Callable[[NDArray[np.float32]], Floats]:
        """Make the function that reads the score of one class: ``(N, C, H, W)`` to ``(N,)``."""

        def predict(images: NDArray[np.float32]) -> Floats:
            scores = self.predict(images)
            return scores[:, class_idx if scores.shape[1] > 1 else 0]

        return predict

    @property
    def _pixels(self) -> str | None:
        """Layout of the photos that the artifact takes."""
        preparation = self.explainer.preprocess
        return preparation.pixels if isinstance(preparation, AsDecoded) else None

    def _restore(self, images: NDArray[np.float32]) -> NDArray[Any]:
        """Bring images into the layout and the range that the network or the artifact takes."""
        preparation = self.explainer.preprocess
        if self._pixels == NHWC:
            images = images.transpose(0, 2, 3, 1)
        if self._pixels == NHW:
            images = images[:, 0]
        if isinstance(preparation, AsDecoded):
            dtype = np.dtype(preparation.dtype)
            return np.ascontiguousarray(images.round().clip(0, np.iinfo(dtype).max).astype(dtype))
        return np.ascontiguousarray(images)


def remember_scores(predict: Predict) -> Predict:
    """Make a function that predicts each image once: measures change a photo in the same ways for every map."""
    known: dict[bytes, float] = {}

    def remembered(images: NDArray[np.float32]) -> Floats:
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        new = {key: number for number, key in enumerate(keys) if key not in known}
        if new:
            known.update(zip(new, predict(images[list(new.values())]).tolist(), strict=True))
        return np.array([known[key] for key in keys])

    return remembered


def resize(values: Floats, size: tuple[int, int]) -> Floats:
    """Resize ``(h, w)`` to ``(H, W)`` with a bilinear filter.

    Raises:
        InputError: a map of other than two dimensions.
    """
    from PIL import Image as Pillow

    if values.ndim != 2:
        raise InputError(f"The map has shape {values.shape}; the measures read maps of pictures, (H, W).")
    if values.shape == size:
        return values
    picture = Pillow.fromarray(values.astype(np.float32)).resize(size[::-1], Pillow.Resampling.BILINEAR)
    return np.asarray(picture, np.float64)


def explain_by_chance(seed: int) -> Explanations:
    """A map of uniform random values, other ones for every image and class, the same ones for each call with both."""

    def explain(image: Image, class_idx: int) -> Floats:
        return np.random.default_rng([seed, class_idx, zlib.crc32(image.tobytes())]).random(image.shape[1:])

    return explain


def explain_by_center(image: Image, class_idx: int) -> Floats:
    """A Gaussian in the middle, the same for every image and class."""
    rows, columns = (np.linspace(-1, 1, length) for length in image.shape[1:])
    squares = rows[:, None] ** 2 + columns[None, :] ** 2
    center: Floats = np.exp(-squares / (2 * (2 * CENTER_SIGMA) ** 2))
    return center
