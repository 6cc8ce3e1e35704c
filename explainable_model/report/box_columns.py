"""The boxes of a run as arrays: one entry for each box, in the order of the rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.batch.schema import import_pyarrow
from explainable_model.report.columns import LARGEST_SCALE, cut

MEASURES = ("inside", "entropy", "hottest_tenth")  # of the map of a box
ROUNDING = 1e-3  # how far a share may lie beyond 0 or 1


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """What is counted of boxes, in about 30 bytes each.

    Attributes:
        row: number of the photo's row, ascending; the best box of a photo comes first.
        label: the class, as the detector counts.
        score: as the detector says it.
        strength: the largest value of the map.
        inside: share of the map inside the box; NaN of a zero map.
    """

    row: NDArray[np.int64]
    label: NDArray[np.int32]
    score: NDArray[np.float32]
    strength: NDArray[np.float32]
    inside: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.row)

    def find_best(self, rows: int) -> NDArray[np.int64]:
        """The best box of each row; -1 where there is none."""
        best = np.full(rows, -1, np.int64)
        row, first = np.unique(self.row, return_index=True)
        best[row] = first
        return best

    def is_empty(self) -> NDArray[np.bool_]:
        """Which boxes have a map of zeros."""
        return self.strength <= 0


class BoxReader:
    """Collects the boxes of batches of rows.

    Attributes:
        names: of the classes of the boxes.
        signed: whether a map holds evidence against its box, too.
        missing: numbers of the rows that have no list of boxes.
    """

    def __init__(self) -> None:
        self.names: dict[int, str] = {}
        self.signed = False
        self.missing: list[NDArray[np.int64]] = []
        self._parts: list[BoxColumns] = []
        self._found = False

    def add(self, batch: Any, start: int) -> tuple[dict[int, str], Any]:
        """Take the boxes of a batch of rows, of which the first has the number ``start``.

        Returns:
            What is wrong with a row, by its number; and which rows of the batch have a list of boxes.
        """
        arrow = import_pyarrow()
        column = batch.column("boxes")
        listed = np.asarray(column.is_valid())
        self._found |= bool(listed.any())
        self.missing.append(start + np.flatnonzero(~listed))
        lengths = np.asarray(column.value_lengths().fill_null(0), np.int64)
        rows = start + np.repeat(np.arange(batch.num_rows), lengths)
        boxes = arrow.Table.from_struct_array(column.flatten()) if len(rows) else None
        if boxes is None:
            return {}, listed
        part = BoxColumns(
            rows,
            _read(boxes, "class", -1).astype(np.int32),
            _read(boxes, "score", np.nan),
            _measure_strengths(boxes),
            _read(boxes, "inside", np.nan),
        )
        self.signed |= bool(_read(boxes, "cam_zero", 0).any())
        for label, name in zip(part.label.tolist(), boxes.column("name").to_pylist(), strict=True):
            if name and label >= 0:
                self.names.setdefault(label, cut(name))
        self._parts.append(part)
        sides = np.stack([_read(batch, name, 0) for name in ("width", "height")], 1).min(1) > 0
        return dict(reversed([*_find_problems(boxes, part, sides[rows - start])])), listed

    def finish(self, damaged: NDArray[np.bool_], *, detects: bool) -> BoxColumns | None:
        """Join the boxes, without those of damaged rows; ``None`` for a run of classes."""
        if not (self._found or detects):
            return None
        kinds = {"row": np.int64, "label": np.int32, "score": np.float32, "strength": np.float32, "inside": np.float32}
        joined: dict[str, NDArray[Any]] = {
            name: np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in self._parts)])
            for name, kind in kinds.items()
        }
        kept = ~damaged[joined["row"]]
        return BoxColumns(**{name: values[kept] for name, values in joined.items()})


def _read(table: Any, name: str, missing: float) -> NDArray[Any]:
    values: NDArray[Any] = np.asarray(table.column(name).fill_null(missing))
    return values


def _measure_strengths(boxes: Any) -> NDArray[np.float32]:
    zeros, scales = _read(boxes, "cam_zero", 0).astype(np.float32), _read(boxes, "cam_scale", np.nan)
    largest = np.zeros(len(zeros), np.float32)
    for n, cam in enumerate(boxes.column("cam").to_pylist()):
        if cam:
            largest[n] = max(max(cam) - zeros[n], zeros[n] - min(cam) if zeros[n] else 0)
    strengths: NDArray[np.float32] = largest * scales
    return strengths


def _find_problems(boxes: Any, part: BoxColumns, sized: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    """Say of each row with a box that cannot be drawn why, once or more."""
    edges = [box or (None,) * 4 for box in boxes.column("box").to_pylist()]
    values = np.array([[np.nan if edge is None else edge for edge in box] for box in edges], np.float64)
    in_order = (values[:, :2] <= values[:, 2:]).all(1) & (np.abs(values) < LARGEST_SCALE).all(1)
    cells = np.stack([_read(boxes, name, 0) for name in ("cam_height", "cam_width")], 1).astype(np.int64)
    held = np.array([-1 if cam is None else len(cam) for cam in boxes.column("cam").to_pylist()])
    scales = _read(boxes, "cam_scale", np.nan)
    usable = np.isfinite(part.score) & (scales >= 0) & (scales <= LARGEST_SCALE)
    checks = (
        (sized, "its photo has no size"),
        (part.label >= 0, "a box has no class"),
        (in_order, "the edges of a box are not in order"),
        ((cells >= 1).all(1) & (held == cells.prod(1)), "the map of a box has another number of bytes than of cells"),
        (usable, "a score or the scale of a map is no usable number"),
        (_are_shares(boxes), "what a box says of its map is no number from 0 to 1"),
    )
    for fine, text in checks:
        yield from ((int(row), f"The row is damaged: {text}.") for row in part.row[~fine])


def _are_shares(boxes: Any) -> NDArray[np.bool_]:
    """Whether the measures of each map are null, or numbers from 0 to 1."""
    values = np.stack([_read(boxes, name, 0) for name in MEASURES])
    within: NDArray[np.bool_] = np.all(np.abs(values - 0.5) <= 0.5 + ROUNDING, axis=0)  # not of NaN
    return within
