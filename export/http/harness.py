"""Run a server on loopback for the smoke tests, end it afterwards, and write broken artifacts."""

import http.client
import ipaddress
import os
import re
import shutil
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

from explainable_model.demo import TARGET_LAYER, demo_photos

METADATA_KEY = "explainable_model.json"
CHECK = Path(__file__).with_name("check.py")
NETWORK = "explainable_model.demo:efficientnet_lite0"
PATIENCE = 120.0  # seconds, for a loaded machine


STRACE = ("strace", "-f", "-DDD", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o")
ADDRESS = re.compile(r'htons\((\d+)\).*?"([0-9a-fA-F:.]+)"')
DNS = 53


def require(condition: object, otherwise: str) -> None:
    """Stop with a message where the condition does not hold."""
    if not condition:
        raise SystemExit(f"FAILED: {otherwise}")


def trace(command: Sequence[str], calls: Path) -> list[str]:
    """The command with every connection and message of its processes written to a file.

    Where strace is missing or may not trace, the command alone; in CI this fails.
    """
    able = shutil.which(STRACE[0]) and subprocess.run([*STRACE, os.devnull, "true"], check=False).returncode == 0
    require(able or not os.environ.get("CI"), "strace must be installed in CI, and allowed to trace")
    return [*STRACE, str(calls), *command] if able else [*command]


def find_connections(calls: Path) -> list[str]:
    """The traced calls that leave the machine, or look up a host."""
    lines = calls.read_text(errors="replace").splitlines() if calls.exists() else []
    found = [(line, match) for line in lines for match in ADDRESS.finditer(line)]
    return [line for line, match in found if int(match[1]) == DNS or not _is_loopback(match[2])]


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback


def find_free_port() -> int:
    """Find a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def announce_body(port: int, path: str, headers: Mapping[str, str], length: int | str) -> tuple[int, bytes]:
    """Announce a body of this length without sending it; the status and body of the server's reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", path)
    for name, value in {**headers, "Content-Length": str(length), "Expect": "100-continue"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    with connection.getresponse() as reply:
        return reply.status, reply.read()


@dataclass(frozen=True)
class Running:
    """A running server.

    Attributes:
        process: the started process; its children are in its group.
        folder: its working directory.
    """

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        """The server's output so far."""
        return (self.folder / "log").read_text(errors="replace")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Poll until the condition holds, also while the server cannot be reached or has half written a file."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            require(self.process.poll() is None, f"the server ended:\n{self.log[-3000:]}")
            with suppress(OSError, ValueError):
                if condition():
                    return
            time.sleep(0.25)
        raise SystemExit(f"FAILED: {what} took more than {PATIENCE:.0f} s:\n{self.log[-3000:]}")

    def list_members(self) -> list[psutil.Process]:
        """The server's processes that still run."""
        found = []
        for process in psutil.process_iter():
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getpgid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def require_loopback(self, ports: Sequence[int]) -> None:
        """Require that the server listens on these ports, and nowhere beyond loopback."""
        sockets = [c for member in self.list_members() for c in member.net_connections("inet")]
        listening = {c.laddr for c in sockets if c.status == psutil.CONN_LISTEN}
        require({port for _, port in listening} >= set(ports), f"it listens on {listening}, expected {ports}")
        reached = [address for address in listening if address.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")]
        require(not reached, f"it listens beyond loopback: {reached}")

    def require_contract(self, url: str, name: str, header: str, *options: str, artifact: Path | None = None) -> None:
        """Require that check.py finds no problem, compared with the network itself, or with an artifact."""
        right = ["--model", NETWORK, "--layer", TARGET_LAYER] if artifact is None else ["--artifact", str(artifact)]
        command = [sys.executable, str(CHECK), url, *map(str, demo_photos()), "--name", name]
        done = subprocess.run([*command, *right, "--header", header, *options], check=False)
        require(done.returncode == 0, f"the HTTP contract does not hold:\n{self.log[-3000:]}")


@contextmanager
def run_server(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[Running]:
    """Run a server in its own process group, and end it with all its children, also when this test is ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("FAILED: ended from outside"))
    calls = folder / "calls"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            trace(command, calls),
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
            members = server.list_members()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            psutil.wait_procs(members, timeout=20)
        require(not server.list_members(), f"processes outlive the server: {server.list_members()}")
    require(not find_connections(calls), f"the server opened connections: {find_connections(calls)[:5]}")


def write_broken_artifacts(artifact: Path, folder: Path) -> dict[str, Path]:
    """Write TorchScript files that every server must refuse; the paths by a part of the message."""
    suffix = artifact.suffix
    half, foreign, newer = (folder / f"{name}{suffix}" for name in ("half", "foreign", "newer"))
    half.write_bytes(artifact.read_bytes()[: artifact.stat().st_size // 2])
    rewrite(artifact, foreign, lambda name, body: None if name.endswith(METADATA_KEY) else body)
    rewrite(artifact, newer, lambda name, body: _make_newer(body) if name.endswith(METADATA_KEY) else body)
    return {"damaged": half, "not exported by explainable_model": foreign, "metadata of schema 99": newer}


def rewrite(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Copy a zip archive with changed entries; an entry whose change is ``None`` is left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            body = change(entry.filename, old.read(entry))
            if body is not None:
                new.writestr(entry, body)


def _make_newer(metadata: bytes) -> bytes:
    return metadata.replace(b'"schema_version": 1', b'"schema_version": 99')
