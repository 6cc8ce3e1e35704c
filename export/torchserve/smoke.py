"""Serve the demo's artifact with TorchServe and check it: python smoke.py demo-output/efficientnet_lite0.ts."""

import argparse
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "http"))

from harness import Running, announce_body, find_free_port, require, rewrite, run_server, write_broken_artifacts
from make import KIT, make_archive

from explainable_model.errors import ArtifactError

NAME, FOREIGN, DETECTOR = "lite0", "foreign", "detector"
MAX_BODY = 20_000_000
PATHS = (
    "/",
    "/ping",
    "/api-description",
    "/models",
    f"/models/{NAME}",
    f"/predictions/{NAME}",
    "/token?type=inference",
    "/metrics",
)
OPEN = {
    *(f"{api}_address GET /api-description" for api in ("inference", "management", "metrics")),
    *(
        f"{api}_address OPTIONS {path}"
        for api in ("inference", "management", "metrics")
        for path in ("/", "/api-description")
    ),
    "metrics_address GET /metrics",
    "metrics_address OPTIONS /metrics",
}  # what is answered without a token, as README.md says
ABSENT = (
    "explainable_model",
    "matplotlib",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
)  # packages that a server does not need


@dataclass(frozen=True)
class TorchServe:
    """A running TorchServe.

    Attributes:
        running: its processes.
        ports: its ports, by their names in config.properties.
    """

    running: Running
    ports: Mapping[str, int]

    def read_key(self, kind: str) -> str:
        """A token that the server made when it started."""
        return str(json.loads((self.running.folder / "key_file.json").read_text())[kind]["key"])

    def ask(self, port: str, path: str, key: str | None, body: bytes | None = None) -> tuple[int, str]:
        """Send a GET, or a POST with a body; the status and body of the reply."""
        headers = {"Authorization": f"Bearer {self.read_key(key)}"} if key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[port]}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def list_workers(self, name: str) -> list[dict[str, Any]]:
        """The management API's records of a model's workers."""
        status, body = self.ask("management_address", f"/models/{name}", "management")
        require(status == 200, f"/models/{name} says {status}: {body}")
        workers: list[dict[str, Any]] = json.loads(body)[0]["workers"]
        return workers

    def is_ready(self, name: str) -> bool:
        """Whether every worker of a model has loaded it, which /ping does not tell."""
        workers = self.list_workers(name)
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)


@contextmanager
def serve(store: Path, folder: Path, names: Sequence[str]) -> Iterator[TorchServe]:
    """Run TorchServe on free ports, with these models."""
    text, ports = choose_free_ports((KIT / "config.properties").read_text())
    (folder / "config.properties").write_text(text)
    command = [shutil.which("torchserve") or "torchserve", "--start", "--foreground", "--ncs"]
    command += ["--ts-config", "config.properties", "--model-store", str(store)]
    command += ["--models", *(f"{name}.mar" for name in names)]
    environment = {"TMPDIR": str(folder), "TEMP": str(folder), "PYTHONPATH": str(hide(ABSENT, folder / "absent"))}
    with run_server(command, folder, environment) as server:
        yield TorchServe(server, ports)


def hide(packages: Sequence[str], folder: Path) -> Path:
    """Make a folder for PYTHONPATH with which these packages cannot be imported."""
    folder.mkdir()
    for name in packages:
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('{name} is not on this server')\n")
    return folder


def choose_free_ports(text: str) -> tuple[str, dict[str, int]]:
    """Replace each port in the configuration by a free one; the new text, and the ports by name."""
    ports: dict[str, int] = {}

    def replace(match: re.Match[str]) -> str:
        ports[match[1]] = find_free_port()
        return f"{match[1]}={match[2] or ''}{ports[match[1]]}"

    text = re.sub(r"^(\w+_(?:address|port))=(http://127\.0\.0\.1:)?\d+$", replace, text, flags=re.MULTILINE)
    require(len(ports) == len(set(ports.values())) == 5, f"config.properties has these ports: {ports}")
    return text, ports


def check_refusals(broken: Mapping[str, Path], work: Path) -> None:
    """Require that make.py refuses every artifact that cannot be served."""
    for message, path in broken.items():
        try:
            make_archive(path, work / "refused", name="refused")
        except ArtifactError as error:
            require(message in str(error), f"make.py says of {path.name}: {error}")
        else:
            raise SystemExit(f"FAILED: make.py took {path.name}")
    require(not (work / "refused").exists(), "make.py left something behind")


def write_foreign_archive(good: Path, made: Path, artifact: Path) -> None:
    """Write an archive that make.py would refuse, so that only the worker can notice the artifact."""

    def change(name: str, body: bytes) -> bytes:
        if name.endswith(".ts"):
            return artifact.read_bytes()
        return body.replace(f'"{NAME}"'.encode(), f'"{FOREIGN}"'.encode()) if name.endswith("MANIFEST.json") else body

    rewrite(good, made, change)


def check_closed(server: TorchServe) -> None:
    """Require that the server is on loopback, asks for the right token, and bounds the size of bodies."""
    server.running.require_loopback(list(server.ports.values()))
    asked = {
        "the management API": ("management_address", f"/models/{NAME}", None, None),
        "the management API, with the key of another": ("management_address", f"/models/{NAME}", "inference", None),
        "a prediction": ("inference_address", f"/predictions/{NAME}", None, b"..."),
    }
    for what, question in asked.items():
        status, body = server.ask(*question)
        require((status, "Token" in body) == (400, True), f"{what} without a token gets {status}: {body}")
    token = {"Authorization": f"Bearer {server.read_key('inference')}"}
    status, _ = announce_body(server.ports["inference_address"], f"/predictions/{NAME}", token, MAX_BODY + 1)
    require(status == 413, f"a body that is too large gets {status}")


def check_open(server: TorchServe) -> None:
    """Require that nothing but what README.md names is answered without a token."""
    answered = set()
    for port in ("inference_address", "management_address", "metrics_address"):
        for path in PATHS:
            for method in ("GET", "OPTIONS"):
                status, body = send(server.ports[port], method, path)
                if status == 200:
                    answered.add(f"{port} {method} {path}")
                    require(NAME not in body or path == "/metrics", f"{port} {path} names the model: {body[:500]}")
    require(answered == OPEN, f"answered without a token: {sorted(answered)}")


def send(port: int, method: str, path: str) -> tuple[int, str]:
    """Send a request without a token; the status and body of the reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path)
    with connection.getresponse() as reply:
        return reply.status, reply.read().decode()


def check_health(server: TorchServe) -> None:
    """Require that health.py knows a ready model from another, also after the management token has ended."""
    keys = server.running.folder / "key_file.json"
    command = [sys.executable, str(KIT / "health.py"), "--keys", str(keys)]
    command += ["--port", str(server.ports["management_address"])]
    for names, code in (([NAME], 0), ([FOREIGN], 1), ([], 1)):
        done = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
        require(done.returncode == code, f"health.py {names} ends with {done.returncode}: {done.stdout}{done.stderr}")
    keys.write_text(keys.read_text().replace(server.read_key("management"), "ended"))
    done = subprocess.run([*command, NAME], capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"health.py with a token that has ended: {done.stdout}{done.stderr}")


def check_foreign(server: TorchServe) -> None:
    """Require that a model that cannot be served says why, is never ready, and leaves the others alone."""
    reason = "was not exported by explainable_model"
    server.running.wait_for(lambda: reason in server.running.log, "the reason in the log")
    require(not server.is_ready(FOREIGN), "a foreign artifact is READY")
    require(server.is_ready(NAME), "a foreign artifact took the other model with it")


def check_contract(server: TorchServe, name: str = NAME, *options: str, artifact: Path | None = None) -> None:
    """Require that the HTTP contract holds, and that no worker restarts meanwhile."""
    before = [(worker["pid"], worker["startTime"]) for worker in server.list_workers(name)]
    url, header = (
        f"http://127.0.0.1:{server.ports['inference_address']}",
        f"Authorization: Bearer {server.read_key('inference')}",
    )
    server.running.require_contract(url, name, header, *options, artifact=artifact)
    after = [(worker["pid"], worker["startTime"]) for worker in server.list_workers(name)]
    require(before == after, f"workers were restarted: {before}, {after}")


def check_metrics(server: TorchServe) -> None:
    """Require that the handler's metrics arrive."""
    _, text = server.ask("metrics_address", "/metrics", "management")
    for name in ("DecodeTime_count", "ExplainTime_count", "EncodeTime_count", "RefusedRequests"):
        found = re.search(rf'^{name}{{ModelName="{NAME}".*}} ([\d.]+)$', text, flags=re.MULTILINE)
        require(found and float(found[1]) > 0, f"the metric {name} is missing:\n{text}")


def check_crash(server: TorchServe) -> None:
    """Require that a dead worker is not ready (though /ping says Healthy), and comes back."""
    pid = server.list_workers(NAME)[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    server.running.wait_for(lambda: not server.is_ready(NAME), "noticing that the worker died")
    server.running.wait_for(lambda: server.is_ready(NAME), "the worker's return")
    require(server.list_workers(NAME)[0]["pid"] != pid, "the dead worker is READY")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--detector", type=Path, help="a TorchScript artifact of a detector, served beside it")
    arguments = parser.parse_args()
    artifact, names = arguments.artifact.resolve(), [NAME, FOREIGN]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        broken = write_broken_artifacts(artifact, work)
        check_refusals(broken, work)
        archive = make_archive(artifact, work / "store", NAME)
        write_foreign_archive(archive, archive.with_name(f"{FOREIGN}.mar"), work / "foreign.ts")
        if arguments.detector is not None:
            make_archive(arguments.detector.resolve(), work / "store", DETECTOR)
            names.append(DETECTOR)
        (work / "server").mkdir()
        with serve(work / "store", work / "server", names) as server:
            server.running.wait_for(lambda: server.is_ready(NAME), "loading")
            check_closed(server)
            check_open(server)
            check_foreign(server)
            check_health(server)
            check_contract(server)
            check_metrics(server)
            if arguments.detector is not None:
                server.running.wait_for(lambda: server.is_ready(DETECTOR), "loading the detector")
                check_contract(server, DETECTOR, "--requests", "10", artifact=arguments.detector.resolve())
            check_crash(server)
    print("torchserve: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
