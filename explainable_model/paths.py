"""Paths as users write them."""

import os
from pathlib import Path
from typing import Any

from explainable_model.errors import InputError


def as_path(path: Any) -> Path:
    """Check that an argument is a path.

    Raises:
        InputError: something else, or a name that no file can have.
    """
    if isinstance(path, bytes):
        raise InputError(f"The path is {path!r}, which is bytes; expected str or Path, such as os.fsdecode(path).")
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"The path is {type(path).__name__}; expected str or Path.")
    return Path(path)
