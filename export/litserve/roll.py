"""Replace a served model under load and require that no request is lost: python roll.py old.onnx new.onnx photo.jpg.

Starts a server with the old artifact, a proxy and clients; then a server with the new one, to which the proxy turns.
The proxy stands for the one in front of your servers (see docs/rolling.md).
"""

import argparse
import asyncio
import http.client
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "http"))

from harness import Running, find_free_port, require, run_server

SERVE = Path(__file__).with_name("serve.py")
NAME, KEY = "rolled", "a-key"
CLIENTS = 4
LONGEST = 120.0  # seconds of load
PAUSE = 1.0  # seconds in which the old server accepts the connections that were already on their way to it


class Proxy:
    """Passes each connection on to the server that it is turned to; one connection carries one request."""

    def __init__(self, upstream: int) -> None:
        self.upstream, self.port = upstream, find_free_port()
        self.carried: Counter[int] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps weak references alone

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection to its end."""
        task = asyncio.create_task(self._carry(reader, writer))
        self._tasks.add(task)
        try:
            await task
        finally:
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self.upstream
        self.carried[port] += 1
        there, back = await asyncio.open_connection("127.0.0.1", port)
        forth = asyncio.create_task(copy_bytes(reader, back))
        with suppress(ConnectionError):
            await copy_bytes(there, writer)
        forth.cancel()
        for end in (writer, back):
            end.close()

    async def serve(self, ready: threading.Event) -> None:
        """Listen until ``end`` is called."""
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with await asyncio.start_server(self.carry, "127.0.0.1", self.port):
            ready.set()
            await self._ended.wait()

    def end(self) -> None:
        """End the proxy, from another thread."""
        self._loop.call_soon_threadsafe(self._ended.set)


async def copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the sender has closed its side."""
    while block := await reader.read(65_536):
        writer.write(block)
        await writer.drain()


@contextmanager
def run_proxy(upstream: int) -> Iterator[Proxy]:
    """Run a proxy in a thread of its own."""
    proxy, ready = Proxy(upstream), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ready)))
    thread.start()
    require(ready.wait(10), "the proxy does not start")
    try:
        yield proxy
    finally:
        proxy.end()
        thread.join()


@dataclass
class Load:
    """Clients that ask one question after another.

    Attributes:
        port: where they ask.
        photo: what they send.
        bodies: each answer, and how often it came.
        problems: what went wrong.
    """

    port: int
    photo: bytes
    bodies: Counter[bytes] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until the load ends; never ask a question again."""
        deadline = time.monotonic() + LONGEST
        while not self.ended.is_set() and time.monotonic() < deadline:
            try:
                status, body = ask(self.port, self.photo)
            except (OSError, http.client.HTTPException) as error:
                self.problems.append(repr(error))
                continue
            self.bodies[body] += 1
            if status != 200:
                self.problems.append(f"{status}: {body[:200]!r}")

    def wait_for(self, more: int) -> None:
        """Wait until some more answers have come."""
        goal, deadline = self.bodies.total() + more, time.monotonic() + LONGEST
        while self.bodies.total() < goal:
            require(time.monotonic() < deadline, f"the load stalls: {self.problems[:5]}")
            time.sleep(0.05)


def ask(port: int, photo: bytes) -> tuple[int, bytes]:
    """Send a photo on a connection of its own; the status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"X-API-Key": KEY, "Content-Type": "application/octet-stream", "Connection": "close"}
        connection.request("POST", f"/predictions/{NAME}", photo, headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


@contextmanager
def serve(artifact: Path, folder: Path) -> Iterator[tuple[int, Running]]:
    """Serve an artifact, and wait until it is ready."""
    port = find_free_port()
    folder.mkdir()
    command = [sys.executable, str(SERVE), str(artifact), "--name", NAME, "--port", str(port), "--threads", "1"]
    with run_server(command, folder, {"EXPLAIN_API_KEY": KEY}) as server:
        server.wait_for(lambda: is_ready(port), "loading")
        yield port, server


def is_ready(port: int) -> bool:
    """Whether a server's worker has loaded its artifact."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def check_roll(old: Path, new: Path, photo: bytes, work: Path) -> dict[str, int]:
    """Roll from one artifact to another; how many requests each server answered."""
    with ExitStack() as stack:
        before, server = stack.enter_context(serve(old, work / "old"))
        proxy = stack.enter_context(run_proxy(before))
        load = Load(proxy.port, photo)
        clients = [threading.Thread(target=load.run) for _ in range(CLIENTS)]
        try:
            for client in clients:
                client.start()
            load.wait_for(20)
            after, _ = stack.enter_context(serve(new, work / "new"))
            proxy.upstream = after  # requests that have begun stay where they are
            time.sleep(PAUSE)
            server.process.send_signal(signal.SIGTERM)
            require(server.process.wait(60) == 0, f"the old server ends badly:\n{server.log[-3000:]}")
            load.wait_for(20)
        finally:
            load.ended.set()
            for client in clients:
                client.join()
        require("Traceback" not in server.log, f"the old server's log has a traceback:\n{server.log[-3000:]}")
        require(not load.problems, f"{len(load.problems)} requests were lost: {load.problems[:5]}")
        require(load.bodies.total() == proxy.carried.total(), f"{load.bodies.total()} answers of {proxy.carried}")
        return {"old": proxy.carried[before], "new": proxy.carried[after]}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("photo", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answered = check_roll(chosen.old.resolve(), chosen.new.resolve(), chosen.photo.read_bytes(), Path(folder))
    print(f"rolled: {answered['old']} requests answered by the old server, {answered['new']} by the new one, none lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
