"""Paths as users write them."""

import os
import re
from pathlib import Path
from typing import Any

from explainable_model.errors import InputError

ADDRESS_BEGINS = re.compile(r"[a-z][a-z0-9+.-]+://")
ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+):/(?!/)")  # pathlib joins the slashes; a drive has one letter


def as_path(path: Any) -> Path:
    """Check that an argument is a path.

    Raises:
        InputError: something else, a name that no file can have, or the address of a store.
    """
    if isinstance(path, bytes):
        raise InputError(f"The path is {path!r}, which is bytes; expected str or Path, such as os.fsdecode(path).")
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"The path is {type(path).__name__}; expected str or Path.")
    text = ADDRESS.sub(r"\1://", str(path))
    if ADDRESS_BEGINS.match(text):
        raise InputError(
            f"The path is {text}, an address; expected a file or a folder of this machine or of a disk that it mounts. "
            "Copy it from there or to there with the store's own tool."
        )
    return Path(path)
