"""Serve an artifact with LitServe: python serve.py lite0.onnx (or .ts). Requests and answers: ../http/README.md."""

import argparse
import hmac
import logging
import multiprocessing
import os
import secrets
import signal
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

import litserve
from description import describe
from fastapi import Depends, FastAPI, Header
from fastapi import Request as HttpRequest
from fastapi import Response as HttpResponse
from fastapi.responses import JSONResponse
from guard import Guard, ImpatientProtocol
from journal import Journal, Metrics
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from explainable_model import load, read_metadata
from explainable_model.errors import ExplainableModelError
from explainable_model.serving import Request, RequestError, Response, Service, Settings, parse_json_fields

HEALTH = "/health"


async def read_request(http: HttpRequest) -> Request:
    """Read the body, the form or the JSON of one request."""
    kind = http.headers.get("content-type", "").split(";")[0].strip().lower()
    if http.path_params["kind"] not in ("predictions", "explanations") or http.path_params["name"] != http.app.title:
        raise RequestError(
            HTTPStatus.NOT_FOUND, f"There is no {http.url.path}; expected /predictions/{http.app.title}."
        )
    fields: dict[str, object] = {}
    if kind in ("multipart/form-data", "application/x-www-form-urlencoded"):
        for name, value in (await http.form()).items():
            fields[name] = await value.read() if isinstance(value, UploadFile) else value
    elif kind == "application/json":
        fields = dict(parse_json_fields(await http.body()))
    else:
        fields["image"] = await http.body()
    return Request(fields, http.headers.get("accept", ""))


class ExplainAPI(litserve.LitAPI):
    """One worker, with the artifact in its runtime."""

    def __init__(self, artifact: Path, key: str, threads: int | None, batch: int, delay: float) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=delay, api_path="/{kind}/{name}")
        self.artifact, self.key, self.threads = artifact, key, threads

    def authorize(self, http: HttpRequest, x_api_key: Annotated[str, Header()] = "") -> None:
        """Refuse a request without the key, except for the health; LitServe calls this for every path."""
        if http.url.path != HEALTH and not hmac.compare_digest(x_api_key.encode(), self.key.encode()):
            raise RequestError(HTTPStatus.UNAUTHORIZED, "The header X-API-Key is missing or wrong.")

    def setup(self, device: str) -> None:
        """Open the artifact; the worker is ready only where the artifact gives its recorded answer."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the server ends this one last
        session = load(self.artifact, threads=self.threads)
        self.service = Service(session, session.metadata, Settings())

    def decode_request(self, request: Annotated[Request, Depends(read_request)]) -> Request:
        """Return the request, which the server's process has read."""
        return request

    def predict(self, requests: list[Request]) -> list[Response]:
        """Answer a batch."""
        return self.service.answer(requests)[0]

    def encode_response(self, output: Response) -> HttpResponse:
        """Give each request its own status."""
        return to_http(output)


def to_http(response: Response) -> HttpResponse:
    """The response as LitServe sends it."""
    headers = dict(response.headers)
    return HttpResponse(response.body, int(response.status), headers, media_type=response.content_type)


def answer_refusal(http: HttpRequest, error: Exception) -> HttpResponse:
    """Answer the server's own refusals (a wrong key, a body that is too large) as the contract does."""
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers, message = dict(error.headers or {}), str(error.detail)
        if error.status_code == HTTPStatus.NOT_FOUND:
            message = f"There is no {http.url.path}; expected /predictions/{http.app.title}."
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            message = f"{http.url.path} does not answer {http.method}; expected {headers.get('Allow', 'POST')}."
        error = RequestError(HTTPStatus(error.status_code), message)
    assert isinstance(error, RequestError)
    answer = to_http(error.response())
    answer.headers.update(headers)
    return answer


def stop(*_: object) -> None:
    """End after SIGTERM or Ctrl-C: LitServe answers what it has begun, and ends its children."""
    if multiprocessing.parent_process() is None:
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, signal.SIG_IGN)  # the end has begun
        logging.getLogger("litserve.server").addFilter(is_news)
        raise KeyboardInterrupt
    sys.exit()


def is_news(record: logging.LogRecord) -> bool:
    """Whether a message of LitServe is more than its monitor's, which takes the end of a worker for an accident."""
    return record.funcName != "monitor"


def add_pages(app: FastAPI, api: ExplainAPI) -> None:
    """Add the counts and the description of the server, both behind the key."""
    metrics, description = Metrics(), describe(app.title)
    app.add_middleware(Guard)
    app.add_middleware(Journal, metrics=metrics)

    @app.get("/metrics", dependencies=[Depends(api.authorize)])
    async def write_metrics() -> HttpResponse:
        return HttpResponse(metrics.write(), media_type="text/plain; version=0.0.4")

    @app.get("/docs", dependencies=[Depends(api.authorize)])
    async def write_description() -> JSONResponse:
        return JSONResponse(description)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="a .ts or .onnx file made by explainable_model")
    parser.add_argument("--name", help="the model's name in URLs; default: the artifact's")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--host", default="127.0.0.1", choices=["127.0.0.1", "0.0.0.0"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="threads of the runtime in each worker; default: all cores")
    parser.add_argument("--batch", type=int, default=8, help="requests that are answered together at most; 2 or more")
    parser.add_argument("--delay", type=float, default=0.02, help="how many seconds a request waits for others")
    arguments = parser.parse_args()
    try:
        read_metadata(arguments.artifact)
    except ExplainableModelError as error:
        raise SystemExit(f"error: {error}") from error
    key = os.environ.get("EXPLAIN_API_KEY") or secrets.token_urlsafe(16)
    api = ExplainAPI(arguments.artifact, key, arguments.threads, arguments.batch, arguments.delay)
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=arguments.workers,
        healthcheck_path=HEALTH,
        disable_openapi_url=True,
    )
    server.app.title = arguments.name or arguments.artifact.stem
    add_pages(server.app, api)
    server.app.add_exception_handler(HTTPException, answer_refusal)
    server.app.add_exception_handler(RequestError, answer_refusal)
    print(f"X-API-Key: {key}", flush=True)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    options = {"num_api_servers": 1, "generate_client_file": False, "http": ImpatientProtocol, "access_log": False}
    try:
        server.run(arguments.host, arguments.port, **options)
    except KeyboardInterrupt:  # before the first worker was ready
        for child in multiprocessing.active_children():
            child.terminate()


if __name__ == "__main__":
    main()
