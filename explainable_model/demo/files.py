"""Files of installed packages, and the folder that a demo writes to."""

import importlib.util
from pathlib import Path

from explainable_model.errors import ArtifactError, MissingRuntimeError


def find_in_package(package: str, *parts: str) -> Path:
    """Find a file in an installed package without importing the package, which could download data."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise missing_error(package)
    path = Path(spec.submodule_search_locations[0], *parts)
    if not path.is_file():
        raise missing_error(f"{package}/{'/'.join(parts)}")
    return path


def missing_error(requirement: str) -> MissingRuntimeError:
    """The error for a package that the demo needs."""
    return MissingRuntimeError(
        f"The demo needs {requirement}, which is not installed: pip install 'explainable-model[demo]'."
    )


def make_folder(out: str | Path) -> Path:
    """Make the folder of the demo's files.

    Raises:
        ArtifactError: it cannot be made.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(
            f"The folder {out} cannot be made ({error.strerror}); choose another with --out."
        ) from error
    return out
