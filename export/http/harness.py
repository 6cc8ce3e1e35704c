"""What the smoke tests share: a server that runs on loopback and is gone afterwards, and broken artifacts."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from explainable_model.artifact.metadata import METADATA_KEY
from explainable_model.demo import TARGET_LAYER, demo_photos

CHECK = Path(__file__).with_name("check.py")
NETWORK = "explainable_model.demo:efficientnet_lite0"
PATIENCE = 120.0  # seconds, for a loaded machine


def require(condition: object, otherwise: str) -> None:
    """Stop with a message where something does not hold."""
    if not condition:
        raise SystemExit(f"FAILED: {otherwise}")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def announce(port: int, path: str, headers: Mapping[str, str], length: int) -> tuple[int, bytes]:
    """What a server says to a body of this length before it has seen any of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", path)
    for name, value in {**headers, "Content-Length": str(length), "Expect": "100-continue"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as reply:
        return reply.status, reply.read()


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        process: the one that was started; its children are in its group.
        folder: where it runs.
    """

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Poll until it holds; a server that cannot be reached yet, or has half written a file, is polled again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            require(self.process.poll() is None, f"the server ended:\n{self.log[-3000:]}")
            with suppress(OSError, ValueError):
                if condition():
                    return
            time.sleep(0.25)
        raise SystemExit(f"FAILED: {what} took more than {PATIENCE:.0f} s:\n{self.log[-3000:]}")

    def members(self) -> list[psutil.Process]:
        """Its processes that still run."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def require_loopback(self, ports: Sequence[int]) -> None:
        """It listens on these ports, and on nothing that others can reach."""
        sockets = [c for member in self.members() for c in member.net_connections("inet")]
        listening = {c.laddr for c in sockets if c.status == psutil.CONN_LISTEN}
        require({port for _, port in listening} >= set(ports), f"it listens on {listening}, expected {ports}")
        reached = [address for address in listening if address.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")]
        require(not reached, f"it listens beyond loopback: {reached}")

    def require_contract(self, url: str, name: str, header: str, *options: str) -> None:
        """check.py finds nothing wrong, compared with the network itself."""
        command = [sys.executable, str(CHECK), url, *map(str, demo_photos()), "--name", name, "--model", NETWORK]
        done = subprocess.run([*command, "--layer", TARGET_LAYER, "--header", header, *options], check=False)
        require(done.returncode == 0, f"the HTTP contract does not hold:\n{self.log[-3000:]}")


@contextmanager
def running(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """A server in a process group of its own; gone, with all its children, afterwards, also when this test is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("FAILED: ended from outside"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Running(process, folder)
    try:
        yield server
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            members = server.members()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            psutil.wait_procs(members, timeout=20)
        require(not server.members(), f"these processes outlive the server: {server.members()}")


def broken_artifacts(artifact: Path, folder: Path) -> dict[str, Path]:
    """TorchScript files that no server may take, by what must be said of them."""
    suffix = artifact.suffix
    half, foreign, newer = (folder / f"{name}{suffix}" for name in ("half", "foreign", "newer"))
    half.write_bytes(artifact.read_bytes()[: artifact.stat().st_size // 2])
    rewrite(artifact, foreign, lambda name, body: None if name.endswith(METADATA_KEY) else body)
    rewrite(artifact, newer, lambda name, body: _newer(body) if name.endswith(METADATA_KEY) else body)
    return {"damaged": half, "not exported by explainable_model": foreign, "metadata of schema 99": newer}


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """A zip archive with some of its entries changed, or left out for ``None``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            body = change(entry.filename, old.read(entry))
            if body is not None:
                new.writestr(entry, body)


def _newer(metadata: bytes) -> bytes:
    return metadata.replace(b'"schema_version": 1', b'"schema_version": 99')
