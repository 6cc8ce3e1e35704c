"""Labels in a file of their own, which find their photos by path, id or file name."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from explainable_model.batch.photos import Photo
from explainable_model.batch.sources import with_label
from explainable_model.batch.tables import COLUMN_ID, COLUMN_LABEL, PATH_COLUMNS, find_column, read_table
from explainable_model.errors import InputError


@dataclass
class Labels:
    """Labels by path, and how they met the photos.

    Attributes:
        sha256: of their file.
        by_path: the labels.
        folder: of their file, to which paths are relative.
        used: the paths that met a photo.
        unlabeled: how many photos have no label.
    """

    sha256: str
    by_path: dict[str, str]
    folder: Path
    used: set[str] = field(default_factory=set)
    unlabeled: int = 0

    def label(self, photo: Photo) -> Photo:
        """Give a photo its label, found by its id, its path or its file's name."""
        relative = PurePath(photo.uri)
        if relative.is_relative_to(self.folder):
            relative = relative.relative_to(self.folder)
        names = (photo.id, photo.uri, str(relative), PurePath(photo.uri.rpartition("#")[2] or photo.uri).name)
        for name in names:
            if name in self.by_path:
                self.used.add(name)
                return with_label(photo, self.by_path[name])
        self.unlabeled += photo.label is None
        return photo

    @property
    def unused(self) -> list[str]:
        """The labels that met no photo."""
        return [name for name in self.by_path if name not in self.used]


def read_labels(path: str | Path) -> Labels:
    """Read a CSV file with the columns ``path`` (or ``id``) and ``label``.

    Raises:
        InputError: it cannot be read, lacks a column, or gives a photo two labels.
    """
    labels: dict[str, str] = {}
    columns: tuple[str, str] | None = None
    for row in read_table(path):
        if columns is None:
            columns = find_column(row, (*PATH_COLUMNS, COLUMN_ID), path), find_column(row, (COLUMN_LABEL,), path)
        name, label = (row[column].strip() for column in columns)
        if labels.setdefault(name, label) != label:
            raise InputError(f"{path} labels {name} as {labels[name]!r} and as {label!r}; expected one label each.")
    if not labels:
        raise InputError(f"{path} holds no label; expected the columns path and label, and a line for each photo.")
    return Labels(hashlib.sha256(Path(path).read_bytes()).hexdigest(), labels, Path(path).absolute().parent)
