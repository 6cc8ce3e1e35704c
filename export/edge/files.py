"""Write whole files, and notice an artifact whose two files are of different exports. Needs Python 3.8 alone."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

CHECKSUM = re.compile(rb"checksum&quot;: &quot;(sha256:[0-9a-f]{64})")


def write_file(path, content):
    """Write a file under a temporary name and rename it, so that ``path`` is never half a file.

    A symbolic link is followed to the file that it names; mode and owner of a replaced file are kept. What is no file
    (a directory, a device, a FIFO, a socket) and what is read-only is refused.
    """
    try:
        old = os.stat(path)
    except FileNotFoundError:
        old = None
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise ValueError(f"{path} cannot be written: it is a directory, a device, a FIFO or a socket.")
    if old is not None and not (old.st_mode & 0o222 and os.access(path, os.W_OK)):
        raise ValueError(f"{path} cannot be written: the file is read-only.")
    target = os.path.realpath(path)
    with tempfile.TemporaryDirectory(prefix=".", dir=os.path.dirname(target)) as folder:
        made = os.path.join(folder, "made")
        with open(made, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a full disk may show here first
        if old is not None:
            new = os.stat(made)
            if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
                os.chown(made, old.st_uid, old.st_gid)
            os.chmod(made, stat.S_IMODE(old.st_mode))
        os.replace(made, target)


def check_halves(graph):
    """Compare the graph of OpenVINO, an ``.xml`` file, and the ``.bin`` file beside it with their checksum.

    The checksum is the SHA-256 of both files with zeros in its own place. Artifacts of earlier versions have none.
    """
    content = Path(graph).read_bytes()
    found = CHECKSUM.search(content)
    if found is None:
        return
    digest = hashlib.sha256(content.replace(found[1], b"sha256:" + 64 * b"0"))
    digest.update(Path(graph).with_suffix(".bin").read_bytes())
    if f"sha256:{digest.hexdigest()}".encode() != found[1]:
        raise ValueError(f"{graph} or the .bin file beside it is damaged or of another export; export both again.")
