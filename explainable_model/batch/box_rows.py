"""A detector's artifact: from prepared photos to the nested column of boxes, each with a map of its own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.shapes import spatial
from explainable_model.batch.batches import split_into_batches
from explainable_model.batch.map_measures import compute_share_in_box, describe_map
from explainable_model.batch.prepared import Prepared
from explainable_model.batch.small_maps import CELL, MOST_CELLS, average_cells, count_cells, fit_cells
from explainable_model.errors import InputError
from explainable_model.explainer.detection_defaults import DETECTION
from explainable_model.explainer.detector import session_detector
from explainable_model.explainer.found_boxes import FoundBoxes, find_boxes
from explainable_model.explanation import DetectionExplanation, Detections, list_outputs
from explainable_model.runtime import Session

MOST_VALUES = 2**25  # of maps at once, 128 MB: every box of every photo has one of the image's size


class BoxRows:
    """Explains every box that the artifact finds in a photo.

    Attributes:
        explainer: what describes the boxes.
        task: that of a detector.
        cam_source: how the maps came to their size.

    Raises:
        InputError: nothing says how a photo becomes the input, or its border cannot be cut from the maps.
    """

    task: str | None = DETECTION

    def __init__(self, session: Session) -> None:
        self._session = session
        self.explainer = session_detector(session)
        metadata = session.metadata
        self._is_small = metadata.upsample == "none" and metadata.pixels is None
        if (shape := [side for side in metadata.cam_shape[-2:] if side is not None]) and len(shape) == 2:
            self.explainer.preprocess.crop(np.zeros(shape, np.float32), *shape[::-1])  # refuses maps of another size
        self.cam_source = (
            f"the layer's own resolution, at most {MOST_CELLS} cells a side"
            if self._is_small
            else f"means over cells of {CELL} pixels of the network's image"
            + (", of maps of the photo's size" if metadata.pixels is not None else "")
        )

    def resolve(self, text: str | None) -> int | None:
        """Refuse a class.

        Raises:
            InputError: one was asked for.
        """
        if text is None:
            return None
        raise InputError(
            f"The class {text} was asked for; a detector explains the boxes that it finds. Leave out the class: "
            "class_idx=, --class, and the column 'class' of the photos."
        )

    def explain(self, photos: Sequence[Prepared], classes: Sequence[int | None], top: int) -> list[dict[str, Any]]:
        """See ``Opened.explain``; neither ``classes`` nor ``top`` says anything of boxes."""
        images = np.concatenate([photo.image for photo in photos])
        rows: list[dict[str, Any]] = []
        most = count_together(self._session.metadata, images.shape)
        for (part,) in split_into_batches(self._session, images, most=most):
            *detections, maps = list_outputs(self._session(part))
            for n, photo in enumerate(photos[len(rows) : len(rows) + len(part)]):
                rows.append(self._describe([found[n : n + 1] for found in detections], maps[n : n + 1], photo))
        return rows

    def _describe(self, detections: Sequence[NDArray[Any]], maps: NDArray[Any], photo: Prepared) -> dict[str, Any]:
        answer = DetectionExplanation(Detections(*detections), maps)
        found = find_boxes(self.explainer, answer, photo.image.shape, photo.size)
        if not all(np.isfinite(values).all() for values in (found.boxes, found.scores, found.cam)):
            raise InputError("The network's answer to this photo is not finite.")
        small = self._reduce(found, photo.size)
        boxes = [self._describe_box(found, n, record, small[n]) for n, record in enumerate(found.list_boxes())]
        return {"width": photo.size[0], "height": photo.size[1], "crop": list(found.box), "boxes": boxes}

    def _describe_box(
        self, found: FoundBoxes, number: int, record: dict[str, Any], cam: NDArray[Any]
    ) -> dict[str, Any]:
        edges = found.boxes[number].tolist()
        return {
            "box": edges,
            "class": record["class_idx"],
            "name": record["class_name"],
            "score": record["score"],
            **describe_map(cam, found.box, signed=self.explainer.signed),
            "inside": compute_share_in_box(found.cam[number], found.box, edges),
        }

    def _reduce(self, found: FoundBoxes, photo_size: tuple[int, int]) -> NDArray[Any]:
        """Maps of at most 64 cells a side."""
        size = (found.cam.shape[1], found.cam.shape[2])
        grid = fit_cells(size) if self._is_small else count_cells(find_extent(self._session.metadata, size, photo_size))
        grid = (min(grid[0], size[0]), min(grid[1], size[1]))
        if not len(found) or grid == size:
            return found.cam.astype(np.float64)
        return np.stack([average_cells(cam, grid) for cam in found.cam])


def count_together(metadata: Metadata, shape: Sequence[int]) -> int:
    """Count the images of ``shape`` whose maps, of the image's size, are in memory at once; at least one."""
    height, width = spatial(shape, metadata.pixels)
    return int(max(1, MOST_VALUES // ((metadata.top_k or 1) * height * width)))


def find_extent(metadata: Metadata, size: tuple[int, int], photo_size: tuple[int, int]) -> tuple[int, int]:
    """Find the height and width that a map has in the network's image, without the border.

    Args:
        metadata: of the artifact.
        size: height and width of the map.
        photo_size: width and height of the photo, which are the map's own where the artifact takes photos.
    """
    if metadata.pixels is None or metadata.preprocess is None:
        return size
    left, top, right, bottom = metadata.preprocess.image_box(*photo_size)
    height, width = metadata.network_shape[-2:]
    shares = (photo_size[1] / (bottom - top), photo_size[0] / (right - left))
    return max(1, round(height * shares[0])), max(1, round(width * shares[1]))
