"""Writes one line of JSON per request, gives each an id, and counts requests and their durations for Prometheus."""

import json
import logging
import re
import time
import uuid
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from explainable_model.serving import RequestError

REQUEST_ID = b"x-request-id"
ID_PATTERN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
ROUTES = ("predictions", "explanations", "health", "metrics", "docs", "info")  # other paths count as "other"
QUIET_ROUTES = ("health", "metrics")  # polled by machines; a line only where the answer is not 200
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
CLIENT_LEFT = 499  # the client closed the connection before its answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
log = logging.getLogger(__name__)


@dataclass
class Metrics:
    """Counts since the server started.

    Attributes:
        statuses: requests by route and status.
        buckets: requests by route and the first bound of ``BOUNDS`` that their duration does not pass.
        seconds: the sum of durations by route.
        running: requests that are being answered.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    buckets: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    running: int = 0

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self.statuses[route, status] += 1
        self.buckets[route, bisect_left(BOUNDS, seconds)] += 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds

    def write(self) -> str:
        """The counts in Prometheus's text format, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._write_lines())

    def _write_lines(self) -> Iterator[str]:
        yield "# HELP explain_requests_total Requests that were answered, by route and status."
        yield "# TYPE explain_requests_total counter"
        for (route, status), count in sorted(self.statuses.items()):
            yield f'explain_requests_total{{route="{route}",status="{status}"}} {count}'
        yield "# HELP explain_requests_running Requests that are being answered."
        yield "# TYPE explain_requests_running gauge"
        yield f"explain_requests_running {self.running}"
        yield "# HELP explain_request_duration_seconds From the end of the headers to the end of the answer."
        yield "# TYPE explain_request_duration_seconds histogram"
        for route, total in sorted(self.seconds.items()):
            below = 0
            for number, bound in enumerate((*BOUNDS, "+Inf")):
                below += self.buckets[route, number]
                yield f'explain_request_duration_seconds_bucket{{route="{route}",le="{bound}"}} {below}'
            yield f'explain_request_duration_seconds_sum{{route="{route}"}} {total:.6f}'
            yield f'explain_request_duration_seconds_count{{route="{route}"}} {below}'


class Journal:
    """ASGI middleware, the outermost one: an id, a line and a count for every request, and a 500 for every error."""

    def __init__(self, app: Callable[..., Awaitable[None]], metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, begun, status = find_id(scope["headers"]), time.perf_counter(), CLIENT_LEFT

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID, name)]
            await send(message)

        self.metrics.running += 1
        try:
            await self.app(scope, receive, note_status)
        except Exception:
            log.exception("Request %s failed.", name.decode())
            if status != CLIENT_LEFT:
                raise
            await send_failure(note_status)
        finally:
            self.metrics.running -= 1
            seconds, route = time.perf_counter() - begun, find_route(scope["path"])
            self.metrics.add(route, status, seconds)
            if route not in QUIET_ROUTES or status != HTTPStatus.OK:
                print(write_line(name, scope, status, seconds), flush=True)


def find_id(headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request's id from its header X-Request-Id; a new one where that is missing, long, or has other characters."""
    given = next((value for name, value in headers if name.lower() == REQUEST_ID), b"")
    return given if ID_PATTERN.fullmatch(given) else uuid.uuid4().hex.encode()


def find_route(path: str) -> str:
    """The part of the path that the metrics name: one of ``ROUTES`` or ``other``, whatever a client asks for."""
    first = path.lstrip("/").split("/")[0]
    return first if first in ROUTES else "other"


def write_line(name: bytes, scope: MutableMapping[str, Any], status: int, seconds: float) -> str:
    """The line of a request."""
    record = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": name.decode(),
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": status,
        "seconds": round(seconds, 4),
    }
    return json.dumps(record)


async def send_failure(send: Send) -> None:
    """Answer an error of the server itself as the contract does; its traceback is in the log."""
    failure = RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed; its log has the error.")
    response = failure.response()
    headers = [(b"content-type", response.content_type.encode()), (b"content-length", b"%d" % len(response.body))]
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
