"""The record and the lock of a run folder: one artifact, the same options, one writer."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from explainable_model.batch.batch_explainer import find_version
from explainable_model.batch.manifest import Manifest
from explainable_model.batch.opened import Opened
from explainable_model.batch.run_folder import RECORD, ROWS, open_run
from explainable_model.batch.schema import SCHEMA_VERSION
from explainable_model.errors import InputError
from explainable_model.writing import write_bytes

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
OURS = ("lock", "manifest", "run", "rows")  # what a run that was stopped early has left


@contextlib.contextmanager
def lock_folder(path: Path) -> Iterator[Path]:
    """Make the folder of a run and keep other writers out of it, where the disk has locks.

    Raises:
        InputError: it cannot be made or written, holds other files, or another process writes it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in path.iterdir() if entry.name.lstrip(".").split(".")[0] not in OURS]
        if foreign and not (path / RECORD).exists():
            raise InputError(f"{path} holds {min(foreign)} and no run; choose a new folder, or one that batch wrote.")
        handle = os.open(path / LOCK, os.O_CREAT | os.O_RDWR, 0o666)
        (path / ROWS).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be written ({error.strerror}); choose another.") from error
    try:
        if fcntl is not None:
            _lock(handle, path)
        yield path
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"Another process writes {path}; wait for it, or choose another folder.") from error
    except OSError:  # a disk without locks
        return


def check_fingerprint(folder: Path, opened: Opened, options: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of another artifact or of other options.

    Raises:
        InputError: it is of another.
    """
    if not (folder / RECORD).exists():
        return
    record = open_run(folder).record
    old, before = record.get("artifact"), record.get("options")
    if not isinstance(old, dict) or not isinstance(before, dict):
        raise InputError(
            f"{folder / RECORD} is damaged: it names no artifact and options. Choose another folder with -o."
        )
    if old.get("sha256") != opened.sha256:
        raise InputError(
            f"{folder} holds rows of another artifact, {old.get('name')} ({str(old.get('sha256'))[:12]}...); this is "
            f"{opened.session.path.name} ({opened.sha256[:12]}...). Choose another folder with -o."
        )
    changed = [name for name, value in options.items() if before.get(name) != value]
    if changed:
        was = ", ".join(f"{name} {before.get(name)!r:.60} (now {options[name]!r})" for name in changed)
        raise InputError(f"{folder} holds rows that were made with {was}. Choose another folder with -o.")


def write_record(folder: Path, opened: Opened, options: Mapping[str, Any], listed: Manifest) -> None:
    """Write ``run.json``.

    Raises:
        ArtifactError: it cannot be written.
    """
    metadata = opened.session.metadata
    record = {
        "schema_version": SCHEMA_VERSION,
        "artifact": {
            "name": opened.session.path.name,
            "sha256": opened.sha256,
            "model": metadata.model,
            "task": opened.rows.task,
            "method": metadata.method,
            "target_layers": metadata.target_layers,
            "output_kind": metadata.output_kind,
            "signed": metadata.diverging,
        },
        "options": dict(options),
        "class_names": None if opened.rows.explainer.class_names is None else list(opened.rows.explainer.class_names),
        "cam_source": opened.rows.cam_source,
        "photos": listed.photos,
        "parts": listed.parts,
        "version": find_version(),
    }
    write_bytes(folder / RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
