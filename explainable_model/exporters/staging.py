"""Writes files beside their target, and renames them when they are finished."""

import os
import shutil
import tempfile
from pathlib import Path

from explainable_model.errors import ArtifactError


class StagedOutput:
    """A temporary folder beside the target file, which is removed at the end.

    Attributes:
        folder: where the finished files are written first.
    """

    def __init__(self, target: Path) -> None:
        self._target = target

    def __enter__(self) -> "StagedOutput":
        parent = self._target.absolute().parent
        try:
            if self._target.is_dir():
                raise IsADirectoryError(f"{self._target} is a directory")
            self.folder = Path(tempfile.mkdtemp(prefix=f".{self._target.name}.", dir=parent))
        except OSError as error:
            raise ArtifactError(
                f"{self._target} cannot be written ({error.strerror or error}); choose a file in an existing "
                "folder that you may write to."
            ) from error
        return self

    def commit(self) -> None:
        """Rename the files into place; the main file comes last, since it refers to the others."""
        files = sorted(self.folder.iterdir(), key=lambda file: file.name == self._target.name)
        for file in files:
            os.replace(file, self._target.absolute().parent / file.name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, ImportError):
            raise ArtifactError(
                f"{self._target} could not be written ({error.strerror or error}); nothing was left behind."
            ) from error
