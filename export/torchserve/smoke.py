"""Serve the demo's artifact with TorchServe for real: python smoke.py demo-output/efficientnet_lite0.ts."""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from make import KIT, make_archive

from explainable_model.demo import TARGET_LAYER, demo_photos
from explainable_model.errors import ArtifactError
from explainable_model.exporters.torchscript import quiet_torchscript
from explainable_model.metadata import METADATA_KEY

CHECK = KIT.parent / "http" / "check.py"
NETWORK = "explainable_model.demo:efficientnet_lite0"
NAME, FOREIGN = "lite0", "foreign"
PATIENCE = 120.0  # seconds, for a loaded machine


@dataclass(frozen=True)
class Server:
    """A running TorchServe.

    Attributes:
        process: the one that was started; its children are in its group.
        folder: where it runs.
        ports: by the name in config.properties.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    ports: Mapping[str, int]

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "log").read_text(errors="replace")

    def key(self, kind: str) -> str:
        """A token that it made when it started."""
        return str(json.loads((self.folder / "key_file.json").read_text())[kind]["key"])

    def get(self, port: str, path: str, key: str | None = "management") -> tuple[int, str]:
        """Status and body of a GET."""
        headers = {"Authorization": f"Bearer {self.key(key)}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[port]}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def workers(self, name: str) -> list[dict[str, Any]]:
        """What the management API says of a model's workers."""
        status, body = self.get("management_address", f"/models/{name}")
        require(status == 200, f"/models/{name} says {status}: {body}")
        workers: list[dict[str, Any]] = json.loads(body)[0]["workers"]
        return workers

    def is_ready(self, name: str) -> bool:
        """Whether every worker of a model has it loaded; /ping does not know."""
        workers = self.workers(name)
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)


@contextmanager
def serving(store: Path, folder: Path) -> Iterator[Server]:
    """TorchServe on free ports of the loopback interface; gone, with all its children, afterwards."""
    text, ports = on_free_ports((KIT / "config.properties").read_text())
    (folder / "config.properties").write_text(text)
    command = [
        shutil.which("torchserve") or "torchserve",
        "--start",
        "--foreground",
        "--ncs",
        "--model-store",
        str(store),
    ]
    command += ["--ts-config", "config.properties", "--models", f"{NAME}.mar", f"{FOREIGN}.mar"]
    environment = {**os.environ, "TMPDIR": str(folder), "TEMP": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield Server(process, folder, ports)
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            members = group(process.pid)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            process.wait()
            psutil.wait_procs(members, timeout=20)


def group(leader: int) -> list[psutil.Process]:
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def on_free_ports(text: str) -> tuple[str, dict[str, int]]:
    """The configuration with each port replaced by a free one."""
    ports: dict[str, int] = {}

    def replaced(match: re.Match[str]) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            ports[match[1]] = probe.getsockname()[1]
        return f"{match[1]}={match[2] or ''}{ports[match[1]]}"

    text = re.sub(r"^(\w+_(?:address|port))=(http://127\.0\.0\.1:)?\d+$", replaced, text, flags=re.MULTILINE)
    require(len(ports) == len(set(ports.values())) == 5, f"config.properties has these ports: {ports}")
    return text, ports


def require(condition: object, otherwise: str) -> None:
    """Stop with a message where something does not hold."""
    if not condition:
        raise SystemExit(f"FAILED: {otherwise}")


def wait_for(condition: Callable[[], bool], what: str, server: Server) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        require(server.process.poll() is None, f"TorchServe ended:\n{server.log[-3000:]}")
        try:
            if condition():
                return
        except (OSError, ValueError):  # it does not listen yet, or the key file is half written
            pass
        time.sleep(0.25)
    raise SystemExit(f"FAILED: {what} took more than {PATIENCE:.0f} s:\n{server.log[-3000:]}")


def check_refusals(artifact: Path, work: Path) -> None:
    """make.py takes no artifact that could not be served."""
    whole = artifact.read_bytes()
    (work / "half.ts").write_bytes(whole[: len(whole) // 2])
    write_foreign(work / "foreign.ts")
    with zipfile.ZipFile(artifact) as source, zipfile.ZipFile(work / "newer.ts", "w") as newer:
        for entry in source.infolist():
            body = source.read(entry)
            if entry.filename.endswith(METADATA_KEY):
                body = json.dumps({**json.loads(body), "schema_version": 99}).encode()
            newer.writestr(entry, body)
    messages = {"half.ts": "damaged", "foreign.ts": "not exported by explainable_model", "newer.ts": "schema 99"}
    for name, message in messages.items():
        try:
            make_archive(work / name, work / "refused", name="refused")
        except ArtifactError as error:
            require(message in str(error), f"make.py says of {name}: {error}")
        else:
            raise SystemExit(f"FAILED: make.py took {name}")
    require(not (work / "refused").exists(), "make.py left something behind")


def write_foreign(path: Path) -> None:
    """TorchScript that is not ours."""
    with quiet_torchscript():
        torch.jit.script(torch.nn.Flatten()).save(str(path))


def write_foreign_archive(good: Path, made: Path, work: Path) -> None:
    """An archive around make.py's back: only the worker can notice."""
    write_foreign(work / "inside.ts")
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            body = source.read(entry)
            if entry.filename.endswith(".ts"):
                body = (work / "inside.ts").read_bytes()
            elif entry.filename.endswith("MANIFEST.json"):
                body = body.replace(f'"{NAME}"'.encode(), f'"{FOREIGN}"'.encode())
            target.writestr(entry, body)


def check_contract(server: Server) -> None:
    """Right answers, right refusals, nothing lost, by the workers that were there before."""
    before = server.workers(NAME)
    url = f"http://127.0.0.1:{server.ports['inference_address']}"
    command = [sys.executable, str(CHECK), url, *map(str, demo_photos()), "--name", NAME, "--model", NETWORK]
    command += ["--layer", TARGET_LAYER, "--header", f"Authorization: Bearer {server.key('inference')}"]
    done = subprocess.run(command, check=False)
    require(done.returncode == 0, f"the HTTP contract does not hold:\n{server.log[-3000:]}")
    after = server.workers(NAME)
    started = [[(worker["pid"], worker["startTime"]) for worker in workers] for workers in (before, after)]
    require(started[0] == started[1], f"workers were restarted: {started}")


def check_closed(server: Server) -> None:
    """Loopback only, and nothing without a token."""
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    listening = {c.laddr for p in processes for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    require({port for _, port in listening} >= set(server.ports.values()), f"it listens on {listening}")
    open_ones = [address for address in listening if address.ip.removeprefix("::ffff:") not in ("127.0.0.1", "::1")]
    require(not open_ones, f"it listens beyond loopback: {open_ones}")
    for key in (None, "inference"):
        status, _ = server.get("management_address", f"/models/{NAME}", key)
        require(status == 400, f"the management API answers {status} with the token {key}")
    body = urllib.request.Request(f"http://127.0.0.1:{server.ports['inference_address']}/predictions/{NAME}", b"...")
    try:
        with urllib.request.urlopen(body, timeout=30) as reply:
            raise SystemExit(f"FAILED: a prediction without a token gets {reply.status}")
    except urllib.error.HTTPError as error:
        require(error.code == 400 and b"Token" in error.read(), f"a prediction without a token gets {error.code}")


def check_foreign(server: Server) -> None:
    """A model that cannot be served says why, is never ready, and leaves the others alone."""
    wait_for(lambda: "was not exported by explainable_model" in server.log, "the reason in the log", server)
    require(not server.is_ready(FOREIGN), "a foreign artifact is READY")
    require(server.is_ready(NAME), "a foreign artifact took the other model with it")


def check_metrics(server: Server) -> None:
    """What the handler measures arrives."""
    _, text = server.get("metrics_address", "/metrics")
    for name in ("DecodeTime_count", "ExplainTime_count", "EncodeTime_count", "RefusedRequests"):
        found = re.search(rf'^{name}{{ModelName="{NAME}".*}} ([\d.]+)$', text, flags=re.MULTILINE)
        require(found and float(found[1]) > 0, f"the metric {name} is missing:\n{text}")


def check_crash(server: Server) -> None:
    """A worker that dies does not look ready (though /ping says Healthy), and comes back."""
    pid = server.workers(NAME)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not server.is_ready(NAME), "noticing that the worker died", server)
    wait_for(lambda: server.is_ready(NAME), "the worker's return", server)
    require(server.workers(NAME)[0]["pid"] != pid, "the dead worker is said to be READY")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    artifact = parser.parse_args().artifact.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        check_refusals(artifact, work)
        archive = make_archive(artifact, work / "store", NAME)
        write_foreign_archive(archive, work / "store" / f"{FOREIGN}.mar", work)
        (work / "server").mkdir()
        with serving(work / "store", work / "server") as server:
            wait_for(lambda: server.is_ready(NAME), "loading", server)
            require(f"served by {work / 'server'}" in server.log, "the worker does not run what is in the archive")
            check_closed(server)
            check_foreign(server)
            check_contract(server)
            check_metrics(server)
            check_crash(server)
        left = group(server.process.pid)
        require(not left, f"these processes outlive the server: {left}")
    print("torchserve: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
