"""Shows the photos of a run under their maps in TensorBoard and in Weights & Biases."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from explainable_model.errors import MissingRuntimeError
from explainable_model.paths import as_path
from explainable_model.report.pictures import ExplainedPhoto, iterate_pictures

COLUMNS = ("photo", "map", "prediction", "score", "label", "right")


def write_tensorboard(run: str | Path, folder: str | Path, *, step: int = 0, **options: Any) -> int:
    """Write photos under their maps into a folder that ``tensorboard --logdir`` shows, one tag for each class.

    Args:
        run: the folder that ``explainable-model batch`` wrote.
        folder: of the events, new or there.
        step: of the pictures: the epoch of the network, for example.
        options: as of ``iterate_pictures``: ``limit``, ``photos``, ``side``.

    Returns:
        How many pictures there are.

    Raises:
        MissingRuntimeError: TensorBoard or PyTorch is not installed.
        InputError, ArtifactError: as ``iterate_pictures``.
    """
    try:
        tensorboard = import_module("torch.utils.tensorboard")
    except ImportError as error:
        raise MissingRuntimeError(
            "The pictures need TensorBoard and PyTorch: pip install tensorboard torch."
        ) from error
    found = list(iterate_pictures(run, **options))  # before the log begins: a mistake leaves none
    with tensorboard.SummaryWriter(str(as_path(folder))) as writer:
        for photo in found:
            writer.add_image(f"{photo.name}/{photo.id}", np.asarray(photo.overlay), step, dataformats="HWC")
            writer.add_text(f"{photo.name}/{photo.id}", photo.caption, step)
    return len(found)


def make_wandb_table(photos: Iterable[ExplainedPhoto]) -> Any:
    """Make a table of Weights & Biases: ``wandb.log({"maps": make_wandb_table(iterate_pictures("run"))})``.

    Args:
        photos: from ``iterate_pictures``.

    Returns:
        A ``wandb.Table`` with a row for each photo.

    Raises:
        MissingRuntimeError: the package wandb is not installed.
    """
    try:
        wandb = import_module("wandb")
    except ImportError as error:
        raise MissingRuntimeError("The table needs Weights & Biases: pip install wandb.") from error
    table = wandb.Table(columns=list(COLUMNS))
    for photo in photos:
        picture = wandb.Image(photo.overlay, caption=photo.caption)
        table.add_data(photo.id, picture, photo.name, photo.score, photo.label, photo.is_right)
    return table
