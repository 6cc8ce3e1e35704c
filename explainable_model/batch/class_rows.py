"""An artifact of classes: from prepared photos to the columns of one class and its map."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.batches import join_batches, split_into_batches
from explainable_model.batch.map_measures import describe_map
from explainable_model.batch.prepared import Prepared
from explainable_model.batch.schema import PROBABILITY, SCORE
from explainable_model.batch.small_maps import find_small_maps
from explainable_model.errors import InputError
from explainable_model.explainer.answers import expand_class_idx, resolve_class
from explainable_model.explainer.explainer import session_explainer
from explainable_model.explanation import PREDICTED, Explanation
from explainable_model.runtime import Session


class ClassRows:
    """Explains one class of each photo.

    Attributes:
        explainer: what describes the answers.
        task: ``None``, that of a classifier.
        cam_source: how the maps came to their size.
    """

    task: str | None = None

    def __init__(self, session: Session) -> None:
        self._session = session
        self.explainer = session_explainer(session)
        self._small_maps = find_small_maps(session.metadata, lambda *probe: self._run(*probe)[2])
        self.cam_source = self._small_maps.source

    def resolve(self, text: str | None) -> int | None:
        """Find the class that a number or a name stands for; ``None`` for the predicted one.

        Raises:
            InputError: there is no such class.
        """
        class_idx = resolve_class(text, self.explainer.class_names)
        classes = self._session.metadata.classes
        if class_idx is not None and class_idx >= classes:
            raise InputError(f"The class is {class_idx}; expected 0 to {classes - 1}.")
        return class_idx

    def explain(self, photos: Sequence[Prepared], classes: Sequence[int | None], top: int) -> list[dict[str, Any]]:
        """See ``Opened.explain``."""
        images = np.concatenate([photo.image for photo in photos])
        class_idx = np.asarray([PREDICTED if idx is None else idx for idx in classes], np.int64)
        logits, explained, maps = self._run(images, class_idx)
        whole = self._session.metadata.pixels is not None  # the maps cover the whole photo, and not the crop alone
        small = self._small_maps.reduce(maps, [photo.crop if whole else None for photo in photos])
        return [
            self._describe(Explanation(logits[n : n + 1], explained[n : n + 1], small[n : n + 1]), photo, top)
            for n, photo in enumerate(photos)
        ]

    def _run(self, images: NDArray[Any], class_idx: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Answers for images of one shape."""
        outputs = []
        for part, asked in split_into_batches(self._session, images, class_idx):
            classes = expand_class_idx(asked, self._session.metadata.top_k)
            logits, explained, maps = self._session(part, classes)[:3]
            outputs.append((logits, explained, maps) if explained.ndim == 1 else (logits, explained[:, 0], maps[:, 0]))
        return join_batches(outputs, len(images))

    def _describe(self, answer: Explanation[NDArray[Any]], photo: Prepared, top: int) -> dict[str, Any]:
        if not (np.isfinite(answer.logits).all() and np.isfinite(answer.cam).all()):
            raise InputError("The network's answer to this photo is not finite.")
        record = self.explainer.describe(answer, top)
        kind = SCORE if record["probability"] is None else PROBABILITY
        best = [{"class": r["class_idx"], "name": r["class_name"], "score": r[kind]} for r in record["top"]]
        return {
            "width": photo.size[0],
            "height": photo.size[1],
            "class": record["class_idx"],
            "name": record["class_name"],
            "score": record[kind],
            "score_kind": kind,
            "top_k": best,
            "crop": list(photo.crop),
            **describe_map(answer.cam[0], photo.crop, signed=self.explainer.signed),
        }
