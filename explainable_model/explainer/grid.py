"""``grid``: photos against methods, layers, classes or networks, in one figure."""

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from explainable_model.errors import ExplainableModelError, InputError
from explainable_model.explainer.explain import explain_class
from explainable_model.explainer.explainer import Explainer
from explainable_model.explainer.open_explainer import open_explainer
from explainable_model.explainer.photo_explanation import PhotoExplanation
from explainable_model.explainer.photos import OpenedPhoto, iterate_photos, read_photo
from explainable_model.imaging.overlay import ALPHA, choose_colormap

CELL = 2.4  # inches
TITLE, CAPTION = 0.14, 0.14  # shares of a cell
TALLEST = 1.5  # height over width of a row
BAR = 0.8  # inches
CAPTION_WIDTH, REASON_WIDTH = 32, 36  # letters
MOST_CELLS = 400


class GridFigure(Figure):
    """A figure of matplotlib that notebooks show without ``%matplotlib``."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


@dataclass(frozen=True)
class Column:
    """One column of a grid.

    Attributes:
        title: above it.
        explain: the answer for a photo.
        signed: whether its maps are signed.
    """

    title: str
    explain: Callable[[OpenedPhoto], PhotoExplanation]
    signed: bool


def grid(
    photos: Any,
    model: Any,
    *,
    methods: Sequence[str] | None = None,
    layers: Sequence[Any] | None = None,
    classes: Sequence[int | str] | None = None,
    class_idx: int | str | None = None,
    colormap: str | None = None,
    alpha: float = ALPHA,
    **arguments: Any,
) -> GridFigure:
    """Draw each photo under its maps: one row per photo, one column per method, layer, class or network.

    Args:
        photos: one or several, as of ``explain``.
        model: as of ``explain``; a mapping from names to networks makes a column of each.
        methods: keys of ``METHODS``, a column each.
        layers: names of layers, a column each.
        classes: numbers or names of classes, a column each.
        class_idx: the class to explain in every cell; ``None`` for the predicted class.
        colormap, alpha: of the overlays.
        arguments: the others of ``explain``, such as ``preprocess`` and ``class_names``.

    Returns:
        A figure of matplotlib: the photos, the overlays with their classes, one color bar. A cell whose method does not
        fit the network says why.

    Raises:
        InputError: columns of more than one kind, nothing to draw, more than 400 cells, or as ``explain``.

    Example:
        >>> figure = grid(["cat.jpg", "dog.jpg"], "lite0.onnx")        # doctest: +SKIP
        >>> figure.savefig("grid.png")                                 # doctest: +SKIP
    """
    opened = [read_photo(photo, number, arguments.get("window")) for number, photo in enumerate(iterate_photos(photos))]
    arguments.pop("window", None)
    columns = _make_columns(model, methods, layers, classes, class_idx, arguments)
    if not opened or not columns:
        raise InputError(
            f"The grid has {len(opened)} photo(s) and {len(columns)} column(s); expected at least one each."
        )
    if len(opened) * len(columns) > MOST_CELLS:
        raise InputError(
            f"The grid has {len(opened)} x {len(columns)} cells; expected at most {MOST_CELLS}. Explain folders with "
            "explainable_model.explain, which streams."
        )
    return _draw(opened, columns, colormap, alpha)


def _make_columns(
    model: Any,
    methods: Sequence[str] | None,
    layers: Sequence[Any] | None,
    classes: Sequence[int | str] | None,
    class_idx: int | str | None,
    arguments: Mapping[str, Any],
) -> list[Column]:
    """Make the columns of the one kind that was asked for."""
    models = model if isinstance(model, Mapping) else None
    kinds = {"methods": methods, "layers": layers, "classes": classes, "several models": models}
    given = [name for name, values in kinds.items() if values is not None]
    if len(given) > 1:
        raise InputError(f"The grid has columns of {' and '.join(given)}; expected one of them.")
    if models is not None:
        return [_make_column(str(name), each, class_idx, arguments) for name, each in models.items()]
    if methods is not None:
        return [_make_column(name, model, class_idx, {**arguments, "method": name}) for name in methods]
    if layers is not None:
        named = [(layer if isinstance(layer, str) else type(layer).__name__, layer) for layer in layers]
        return [_make_column(name, model, class_idx, {**arguments, "target_layer": each}) for name, each in named]
    if classes is not None:
        explainer = open_explainer(model, **arguments)
        return [_column_of(str(name), explainer, name) for name in classes]
    return [_make_column("", model, class_idx, arguments)]


def _make_column(title: str, model: Any, class_idx: int | str | None, arguments: Mapping[str, Any]) -> Column:
    """Open one explainer; where it does not fit the network, every cell of the column says why."""
    try:
        explainer = open_explainer(model, **arguments)
    except ExplainableModelError as error:
        problem = error

        def refuse(_: OpenedPhoto) -> PhotoExplanation:
            raise problem

        return Column(title, refuse, False)
    return _column_of(title, explainer, class_idx)


def _column_of(title: str, explainer: Explainer, class_idx: int | str | None) -> Column:
    return Column(title, lambda opened: explain_class(explainer, opened, class_idx)[0], explainer.signed)


def _draw(opened: Sequence[OpenedPhoto], columns: Sequence[Column], colormap: str | None, alpha: float) -> GridFigure:
    heights = [min(photo.picture.height / photo.picture.width, TALLEST) for photo in opened]
    across, down = len(columns) + 1, sum(heights) + CAPTION * len(opened) + TITLE
    width = across * CELL + BAR
    figure = GridFigure(figsize=(width, down * CELL))
    FigureCanvasAgg(figure)
    spacing = {
        "left": 0.05 / width,
        "right": 1 - BAR / width,
        "wspace": 0.03,
        "hspace": CAPTION * len(opened) / sum(heights),
    }
    top, bottom = 1 - (CAPTION + TITLE) / down, 0.02
    axes = figure.subplots(
        len(opened),
        across,
        squeeze=False,
        gridspec_kw={"height_ratios": heights, "top": top, "bottom": bottom, **spacing},
    )
    for cells, photo in zip(axes, opened, strict=True):
        cells[0].imshow(np.asarray(photo.picture))
        cells[0].set_title(_shorten(photo.name), fontsize=8)
        for cell, column in zip(cells[1:], columns, strict=True):
            _draw_cell(cell, column, photo, colormap, alpha)
    for cell in axes.flat:
        cell.set_axis_off()
    for cell, column in zip(axes[0][1:], columns, strict=True):
        cell.text(
            0.5,
            1 + CAPTION / heights[0],
            column.title,
            ha="center",
            va="bottom",
            weight="bold",
            transform=cell.transAxes,
        )
    signed = any(column.signed for column in columns)
    colors = ScalarMappable(Normalize(-1 if signed else 0, 1), colormap or choose_colormap(signed=signed))
    bar = figure.add_axes((1 - 0.85 * BAR / width, bottom + 0.1, 0.2 * BAR / width, (top - bottom) * 0.8))
    figure.colorbar(colors, cax=bar)
    return figure


def _draw_cell(cell: Axes, column: Column, photo: OpenedPhoto, colormap: str | None, alpha: float) -> None:
    try:
        answer = column.explain(photo)
    except ExplainableModelError as error:
        reason = textwrap.fill(str(error), REASON_WIDTH, max_lines=8)
        cell.text(0.5, 0.5, reason, ha="center", va="center", fontsize=7, transform=cell.transAxes)
        return
    cell.imshow(np.asarray(answer.overlay(colormap=colormap, alpha=alpha)))
    cell.set_title(_shorten(answer.label), fontsize=8)


def _shorten(text: str) -> str:
    return text if len(text) <= CAPTION_WIDTH else text[: CAPTION_WIDTH - 1] + "…"
