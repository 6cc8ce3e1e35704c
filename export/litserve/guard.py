"""Bounds what a client may take of the server: the length of its body, and the time to send headers and body."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from explainable_model.serving import RequestError

MAX_BODY = 20_000_000
PATIENCE = 30.0  # seconds in which a client has to send its headers, and then its body

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """ASGI middleware that refuses a body of no valid length (400), a long one (413) and one that stays out (408)."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, deadline = False, time.monotonic() + PATIENCE
        received, whole = 0, False

        async def receive_in_time() -> Message:
            nonlocal received, whole
            if whole:  # what comes now is the end of the connection, and may take as long as the answer
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.001))
            except TimeoutError as error:
                raise RequestError(
                    HTTPStatus.REQUEST_TIMEOUT, f"The body did not arrive within {PATIENCE:.0f} seconds."
                ) from error
            received += len(message.get("body", b""))
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            if received > MAX_BODY:
                raise _too_large()
            return message

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            check_length(scope["headers"])
            await self.app(scope, receive_in_time, note_start)
        except ClientDisconnect:  # nobody waits for an answer
            return
        except RequestError as error:
            if started:
                raise
            await _refuse(error, send)


def check_length(headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a Content-Length that is no number, or too large a number.

    Raises:
        RequestError: 400 or 413.
    """
    for name, value in headers:
        if name.lower() == b"content-length":
            text = value.strip()
            if not text.isdigit():
                raise RequestError(
                    HTTPStatus.BAD_REQUEST, f"Content-Length is {text[:20]!r}; expected a number of bytes."
                )
            if len(text) > len(str(MAX_BODY)) or int(text) > MAX_BODY:
                raise _too_large()


def _too_large() -> RequestError:
    return RequestError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is too large; expected at most {MAX_BODY:,} bytes."
    )


async def _refuse(error: RequestError, send: Send) -> None:
    """Answer, and close the connection, on which the rest of a body may still come."""
    response = error.response()
    headers = [(b"content-type", response.content_type.encode()), (b"connection", b"close")]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": int(response.status), "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


class ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection whose headers do not come; uvicorn itself waits forever."""

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._late.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Wait for the rest of the headers."""
        self._late.cancel()
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop waiting: ``Guard`` waits for the body."""
        self._late.cancel()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._late = self.loop.call_later(PATIENCE, self.transport.close)
