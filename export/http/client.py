"""An HTTP client for the contract, made of the standard library alone: it keeps one connection open."""

import base64
import http.client
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Reply:
    """A server's reply."""

    status: int
    content_type: str
    headers: Mapping[str, str]
    body: bytes

    def parse_json(self) -> dict[str, Any]:
        """The body as a record; an empty record where the body is not one in JSON."""
        try:
            record = json.loads(self.body)
        except ValueError:
            return {}
        return record if isinstance(record, dict) else {}


class Client:
    """A connection to a server, for one thread."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.netloc:
            raise ValueError(f"The address is {url!r}; expected http://HOST:PORT.")
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        self._headers = dict(headers)

    def post(self, path: str, body: bytes, content_type: str | None, **headers: str) -> Reply:
        """Send a body; where the server has closed the connection, open it again once."""
        sent = {**self._headers, **headers, **({"Content-Type": content_type} if content_type else {})}
        for last in (False, True):
            try:
                self._connection.request("POST", path, body, sent)
                response = self._connection.getresponse()
                return Reply(response.status, response.getheader("content-type", ""), response.headers, response.read())
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self._connection.close()
                if last:
                    raise
        raise AssertionError("unreachable")

    def post_picture(self, path: str, picture: bytes, **headers: str) -> Reply:
        """Send the picture as the body."""
        return self.post(path, picture, "application/octet-stream", **headers)

    def post_json(self, path: str, picture: bytes, **fields: object) -> Reply:
        """Send the picture as base64 in JSON."""
        body = json.dumps({"image": base64.b64encode(picture).decode(), **fields}).encode()
        return self.post(path, body, "application/json")

    def post_form(self, path: str, picture: bytes, **fields: str) -> Reply:
        """Send the picture as a file in a form, after its other fields."""
        boundary = uuid.uuid4().hex
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="photo"\r\n'
        parts.append(head.encode() + b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n")
        body = b"".join(parts) + f"--{boundary}--\r\n".encode()
        return self.post(path, body, f"multipart/form-data; boundary={boundary}")
