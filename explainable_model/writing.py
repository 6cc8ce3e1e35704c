"""Writes files: into a folder beside the target first, and renames them then, so that no target is half written."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from explainable_model.errors import ArtifactError, LeftoverWarning
from explainable_model.paths import as_path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

OWNER = ".writer"  # in the temporary folder: names the process, which holds a lock on the file as long as it lives
STALE_SECONDS = 24 * 3600
LOCK_SECONDS = 60
LONGEST_NAME = 200  # in bytes; the name of the temporary folder is longer than that of the target
REFUSED_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
)


def resolve_target(path: str | Path) -> Path:
    """Follow symbolic links to the file that a path names, and check that a new file may take its place.

    Args:
        path: where to write; the file need not exist.

    Raises:
        ArtifactError: the path names a directory, a device, a FIFO or a socket, the file is read-only or another
            user's, or the name is none that every runtime can open.
        InputError: no path at all.
    """
    name = os.fspath(as_path(path))
    if "\0" in name:
        raise _refusal(repr(name), "the name contains a NUL character")
    try:
        name.encode("utf-8")
        status = os.stat(name)
    except UnicodeEncodeError as error:
        raise _refusal(repr(name), "the name is not valid Unicode, which runtimes need to open the file") from error
    except FileNotFoundError:
        return Path(os.path.realpath(name))
    except OSError as error:
        raise _refusal(name, error.strerror or str(error)) from error
    problem = _find_problem(name, status)
    if problem:
        raise _refusal(name, problem)
    return Path(os.path.realpath(name))


def _find_problem(name: str, status: os.stat_result) -> str:
    kind = next((text for test, text in REFUSED_KINDS if test(status.st_mode)), "")
    if kind:
        return f"{name} {kind}"
    if not status.st_mode & 0o222 or not os.access(name, os.W_OK):
        return "the file is read-only"
    if os.name == "posix" and os.geteuid() not in (0, status.st_uid):
        return f"the file belongs to the user {status.st_uid}, and a new file would be yours: remove it first"
    return ""


def _refusal(name: str, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{name} cannot be written ({reason}); choose a file in an existing folder that you may write to."
    )


class StagedOutput:
    """A temporary folder beside the target file, which is removed at the end.

    The folder contains a file that names the writing process. The process holds a lock on that file until it ends,
    however it ends, so that the next writer can tell the folder of a dead process from one in use.

    Attributes:
        folder: where the finished files are written first.
        file: the path of the main file in that folder.
    """

    def __init__(self, target: str | Path) -> None:
        self._given = target

    def __enter__(self) -> "StagedOutput":
        self._target = resolve_target(self._given)
        prefix = _make_prefix(self._target.name)
        _remove_leftovers(self._target, prefix)
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._target.parent))
        except (OSError, ValueError) as error:
            raise _refusal(str(self._given), getattr(error, "strerror", None) or str(error)) from error
        self.file = self.folder / self._target.name
        self._lock = -1
        try:
            self._lock = _sign(self.folder)
        except OSError as error:
            self.__exit__(OSError, error, None)
        return self

    def commit(self) -> None:
        """Put the files into place: all of them or none, and never mixed with those of another writer.

        The main file comes last, since it refers to the others. Mode and owner of a replaced file are kept.
        """
        made = sorted(
            (file for file in self.folder.iterdir() if file.name != OWNER),
            key=lambda file: file.name == self._target.name,
        )
        pairs = [(file, resolve_target(self._target.with_name(file.name))) for file in made]
        for file, target in pairs:
            _dress(file, target)
        with _locked(self._target.parent):
            _replace_all(pairs, self.folder)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
        if isinstance(error, OSError) and not isinstance(error, ImportError):
            raise ArtifactError(
                f"{self._given} could not be written ({error.strerror or error}); nothing was left behind."
            ) from error


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a whole file at once.

    Raises:
        ArtifactError: the path cannot be written, see ``resolve_target``, or the disk is full; nothing is left behind.
    """
    with StagedOutput(path) as staged:
        staged.file.write_bytes(content)
        staged.commit()
    return Path(path)


def _make_prefix(name: str) -> str:
    """The beginning of the temporary folders of one target."""
    encoded = os.fsencode(name)
    return f".{name}." if len(encoded) <= LONGEST_NAME else f".{hashlib.sha256(encoded).hexdigest()}."


def _sign(folder: Path) -> int:
    """Write the file that names this process, and return its descriptor, which is locked where locks exist."""
    draft = folder / f"{OWNER}.new"
    handle = os.open(draft, os.O_CREAT | os.O_RDWR, 0o600)
    os.write(handle, f"{platform.node()} {os.getpid()}\n".encode())
    if fcntl is None:
        os.close(handle)
        handle = -1
    else:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
    os.replace(draft, folder / OWNER)  # nobody sees the file before it is locked
    return handle


def _remove_leftovers(target: Path, prefix: str) -> None:
    """Remove the folders of writers to the same target that were killed, and say so."""
    wanted = re.compile(re.escape(prefix) + r"[a-z0-9_]{8}")
    try:
        names = os.listdir(target.parent)
    except OSError:  # a folder that may be written and not read
        return
    for folder in (target.parent / name for name in names if wanted.fullmatch(name)):
        if not folder.is_symlink() and _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                warnings.warn(
                    f"Removed {folder}: a process that was writing {target.name} was ended before it had finished.",
                    LeftoverWarning,
                    stacklevel=4,
                )


def _is_stale(folder: Path) -> bool:
    """Whether the process that made the folder has ended; a folder without its sign is never removed."""
    sign = folder / OWNER
    try:
        if sign.is_symlink() or not sign.is_file():
            return False
        with sign.open("rb+") as owner:
            here = owner.read(1024).decode("utf-8", "replace").split(" ")[0] == platform.node()
            old = time.time() - os.fstat(owner.fileno()).st_mtime > STALE_SECONDS
            if fcntl is None:
                return old
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while the process lives
            return here or old
    except OSError:
        return False


def _dress(file: Path, target: Path) -> None:
    """Give a new file the mode and the owner of the file that it replaces, and bring its content to the disk."""
    with contextlib.suppress(FileNotFoundError):
        old, new = target.stat(), file.stat()
        if os.name == "posix" and (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.chown(file, old.st_uid, old.st_gid)
        file.chmod(stat.S_IMODE(old.st_mode))
    with file.open("rb") as content:
        os.fsync(content.fileno())  # a full disk may show here first


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time put files into a folder, where the system and the disk have locks."""
    try:
        handle = os.open(folder, os.O_RDONLY) if fcntl is not None else -1
    except OSError:  # a folder that may be written and not read
        handle = -1
    try:
        if handle >= 0:
            _wait_for_lock(handle, folder)
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def _wait_for_lock(handle: int, folder: Path) -> None:
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                raise OSError(f"another process has held a lock on {folder} for {LOCK_SECONDS} seconds") from error
            time.sleep(0.01)
        except OSError:  # no locks on this disk
            return
        else:
            return


def _replace_all(pairs: list[tuple[Path, Path]], folder: Path) -> None:
    """Rename the files; where one fails, put the replaced ones back."""
    replaced: list[tuple[Path | None, Path]] = []
    try:
        for file, target in pairs:
            replaced.append((_keep_old(target, folder) if len(pairs) > 1 else None, target))
            os.replace(file, target)
    except BaseException:
        for old, target in replaced[:-1]:
            if old is not None:
                os.replace(old, target)
            else:
                target.unlink(missing_ok=True)
        raise


def _keep_old(target: Path, folder: Path) -> Path | None:
    """A second name for the file that is about to be replaced; ``None`` where there is no such file."""
    old = folder / f"{target.name}.old"
    try:
        os.link(target, old)
    except FileNotFoundError:
        return None
    except OSError:  # a disk without hard links
        shutil.copy2(target, old)
    return old
