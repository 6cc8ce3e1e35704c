"""Check a server against the HTTP contract: right answers, right refusals, and no lost request under a bounded load.

python check.py http://127.0.0.1:8080 --name lite0 --artifact lite0.ts photo.jpg --header "Authorization: Bearer KEY"
"""

import argparse
import base64
import functools
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from check_boxes import ExpectedBoxes, expect_boxes
from client import Client, Reply
from load import Load, Shot, fire
from pictures import make_bad, make_good
from PIL import Image

from explainable_model import load
from explainable_model.explainer.answers import split_classes
from explainable_model.explainer.detector import DetectorExplainer, session_detector
from explainable_model.explainer.explainer import Explainer, model_explainer, session_explainer
from explainable_model.imaging.overlay import overlay
from explainable_model.imaging.preprocess import upright_rgb
from explainable_model.writing import write_bytes

ROUNDING = 0.5 / 255  # the heatmap has 8 bits
TOLERANCE = 1e-3  # for map and probability, between two runtimes
BROKEN_SHARE = 0.01


@dataclass
class Check:
    """The checks of one server, and the problems they found.

    Attributes:
        explainer: the network or artifact that gives the right answers.
        connect: opens a connection to the server.
        name: the model's name in URLs.
        problems: the problems so far.
        done: the number of judged replies.
    """

    explainer: Explainer | DetectorExplainer
    connect: Callable[[], Client]
    name: str
    problems: list[str] = field(default_factory=list)
    done: int = 0

    @functools.cached_property
    def client(self) -> Client:
        """A connection for one request at a time."""
        return self.connect()

    @property
    def path(self) -> str:
        """The path of predictions."""
        return f"/predictions/{self.name}"

    def note(self, what: str, problem: str) -> None:
        """Count a reply, and keep its problem, if any."""
        self.done += 1
        if problem:
            self.problems.append(f"{what}: {problem}")

    def expect(self, picture: bytes, class_idx: int | None = None) -> "Expected | ExpectedBoxes":
        """The explainer's answer for a picture, of one class or one box."""
        photo = upright_rgb(Image.open(io.BytesIO(picture)))
        if isinstance(self.explainer, DetectorExplainer):
            return expect_boxes(self.explainer, photo, class_idx)
        classes = None if class_idx is None else np.asarray([class_idx], np.int64)
        answer = split_classes(self.explainer.run(self.explainer.preprocess(photo), classes))[0]
        box = self.explainer.preprocess.box(*photo.size)
        return Expected(self.explainer.describe(answer), answer.cam[0], photo, box)


@dataclass(frozen=True)
class Expected:
    """The right answer for a picture."""

    found: dict[str, Any]
    cam: Any
    photo: Image.Image
    box: tuple[float, float, float, float]

    @property
    def other(self) -> tuple[str, int]:
        """A field that asks for another explanation, and its value: the second of the best classes, or the first."""
        return "class", self.found["top"][min(1, len(self.found["top"]) - 1)]["class_idx"]

    def find_problem(self, reply: Reply) -> str:
        """The problem of a reply, or an empty string."""
        if (reply.status, reply.content_type.split(";")[0]) != (200, "application/json"):
            return f"status {reply.status}, {reply.content_type}: {reply.body[:200]!r}"
        record = reply.parse_json()
        if (record["class_idx"], record["class_name"]) != (self.found["class_idx"], self.found["class_name"]):
            return f"class {record['class_name']} instead of {self.found['class_name']}"
        if self.found["probability"] is not None and abs(record["probability"] - self.found["probability"]) > TOLERANCE:
            return f"probability {record['probability']} instead of {self.found['probability']}"
        if (record["size"], record["box"]) != (list(self.photo.size), list(self.box)):
            return f"size and box {record['size']}, {record['box']} instead of {self.photo.size}, {self.box}"
        gray = np.asarray(Image.open(io.BytesIO(base64.b64decode(record["heatmap"]))), np.float64) / 255
        low, high = record["range"]
        got = low + gray * (high - low)
        off = float(np.abs(got - self.cam).max()) if got.shape == self.cam.shape else np.inf
        return f"the heatmap differs by {off:.4f}" if off > (ROUNDING + TOLERANCE) * (high - low) else ""

    def find_overlay_problem(self, reply: Reply) -> str:
        """The problem of an overlay, or an empty string. The server chooses size and colors, and not the place."""
        if (reply.status, reply.content_type) != (200, "image/png"):
            return f"status {reply.status}, {reply.content_type}: {reply.body[:200]!r}"
        explanation = json.loads(reply.headers.get("X-Explanation") or "{}")
        if explanation.get("class_idx") != self.found["class_idx"]:
            return f"X-Explanation says {explanation}"
        got = Image.open(io.BytesIO(reply.body)).convert("RGB")
        want = overlay(self.photo, self.cam, box=self.box).resize(got.size)
        correlation = np.corrcoef(np.asarray(got).ravel(), np.asarray(want).ravel())[0, 1]
        return f"the overlay correlates {correlation:.3f} with the library's own" if not correlation > 0.9 else ""


def check_answers(check: Check, photos: Sequence[bytes]) -> None:
    """Send a picture and ask for an answer in every way."""
    client = check.client
    for photo in photos:
        right = check.expect(photo)
        for path in (check.path, f"/explanations/{check.name}"):
            check.note(f"POST {path}", right.find_problem(client.post_picture(path, photo)))
        check.note("a form", right.find_problem(client.post_form(check.path, photo, top="3")))
        check.note("JSON", right.find_problem(client.post_json(check.path, photo)))
        check.note("Accept", right.find_overlay_problem(client.post_picture(check.path, photo, Accept="image/png")))
        check.note("accept", right.find_overlay_problem(client.post_form(check.path, photo, accept="image/png")))
        name, other = right.other
        right = check.expect(photo, other)
        check.note(f"another {name}", right.find_problem(client.post_json(check.path, photo, **{name: other})))
        check.note(f"another {name}", right.find_problem(client.post_form(check.path, photo, **{name: str(other)})))


def check_pictures(check: Check, photo: bytes) -> None:
    """Send pictures of every kind, a bad one before each good one."""
    whole = Image.open(io.BytesIO(photo))
    refused = list(make_bad(whole).items())
    for number, (kind, picture) in enumerate(make_good(whole).items()):
        what, (broken, status) = refused[number % len(refused)]
        check.note(what, find_refusal_problem(check.client.post_picture(check.path, broken), status))
        check.note(
            f"a picture, {kind}", check.expect(picture).find_problem(check.client.post_picture(check.path, picture))
        )


def check_requests(check: Check, photo: bytes) -> None:
    """Send requests that are wrong in themselves."""
    client, small = check.client, make_good(Image.open(io.BytesIO(photo)))["jpeg"]
    wrong = {
        "no such class": (client.post_json(check.path, small, **{"class": "no such class"}), 400),
        "a class out of range": (client.post_form(check.path, small, **{"class": "1000000"}), 400),
        "a class of two signs": (client.post_form(check.path, small, **{"class": "+-5"}), 400),
        "a class of 5,000 digits": (client.post_form(check.path, small, **{"class": "9" * 5000}), 400),
        "5,000 digits of classes": (client.post_form(check.path, small, top="9" * 5000), 400),
        "a class that is a list": (client.post_json(check.path, small, **{"class": [1]}), 400),
        "a wrong number of classes": (client.post_form(check.path, small, top="-3"), 400),
        "no JSON": (client.post(check.path, b'{"image": ', "application/json"), 400),
        "JSON of 100,000 brackets": (client.post(check.path, b"[" * 100_000, "application/json"), 400),
        "JSON of another kind": (client.post(check.path, b"[1, 2]", "application/json"), 400),
        "JSON without a picture": (client.post(check.path, b"{}", "application/json"), 400),
        "no base64": (client.post(check.path, b'{"image": "!"}', "application/json"), 400),
        "a form without a picture": (client.post(check.path, b"--b--\r\n", "multipart/form-data; boundary=b"), 400),
        "another model": (client.post_picture("/predictions/no-such-model", small), 404),
    }
    for what, (reply, status) in wrong.items():
        check.note(what, find_refusal_problem(reply, status))


def find_refusal_problem(reply: Reply, status: int) -> str:
    """The problem of a refusal, or an empty string."""
    record = reply.parse_json()
    if (reply.status, record.get("code")) != (status, status):
        return f"status {reply.status}, expected {status}: {reply.body[:200]!r}"
    return "" if len(str(record.get("message", ""))) > 10 else f"no message: {record}"


def check_load(check: Check, photos: Sequence[bytes], requests: int, clients: int) -> Load:
    """Send different pictures in turn, so that a reply to another request is noticed."""
    kinds = make_good(Image.open(io.BytesIO(photos[0])))
    whole = [*photos, kinds["gray"], kinds["rotated by EXIF"]]
    fine = [Shot(picture, check.expect(picture).find_problem) for picture in whole]
    refused = make_bad(Image.open(io.BytesIO(photos[0]))).values()
    broken = [Shot(picture, functools.partial(find_refusal_problem, status=status)) for picture, status in refused]
    every = round(1 / BROKEN_SHARE)
    shots = [
        broken[n // every % len(broken)] if n % every == every // 2 else fine[n % len(fine)] for n in range(requests)
    ]
    load = fire(check.connect, check.path, shots, clients)
    check.done += load.requests
    check.problems += [f"under load: {problem}" for problem in load.problems]
    if sum(load.statuses.values()) != requests:
        check.problems.append(f"under load: {sum(load.statuses.values())} of {requests} requests got a reply")
    return load


def open_explainer(arguments: argparse.Namespace) -> Explainer | DetectorExplainer:
    """The network or artifact that gives the right answers."""
    if arguments.artifact is not None:
        session = load(arguments.artifact)
        return session_explainer(session) if session.metadata.detection is None else session_detector(session)
    from explainable_model.networks.named import load_named_model

    return model_explainer(load_named_model(arguments.model), arguments.layer, arguments.method)


def parse_headers(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values of lines ``Name: value``."""
    for line in lines:
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="http://HOST:PORT")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--name", required=True, help="the model's name in URLs")
    right = parser.add_mutually_exclusive_group(required=True)
    right.add_argument("--artifact", type=Path, help="compare with an artifact")
    right.add_argument("--model", help="compare with a network: package.module:factory")
    parser.add_argument("--layer", help="the target layer of the network")
    parser.add_argument("--method", default="gradcam")
    parser.add_argument("--header", action="append", default=[], help="send it with every request, e.g. a token")
    parser.add_argument("--requests", type=int, default=300, help="number of requests of the load")
    parser.add_argument("--clients", type=int, default=8, help="number of clients of the load")
    parser.add_argument("--json", type=Path, help="write the measured figures")
    arguments = parser.parse_args()

    connect = functools.partial(Client, arguments.url, dict(parse_headers(arguments.header)))
    check = Check(open_explainer(arguments), connect, arguments.name)
    photos = [path.read_bytes() for path in arguments.photos]
    check_answers(check, photos)
    check_pictures(check, photos[0])
    check_requests(check, photos[0])
    summary = {
        "one_client": check_load(check, photos, max(arguments.requests // 10, 1), 1).summarize(),
        "load": check_load(check, photos, arguments.requests, arguments.clients).summarize(),
        "replies": check.done,
        "problems": check.problems,
    }
    print(json.dumps(summary, indent=2))
    if arguments.json:
        write_bytes(arguments.json, (json.dumps(summary, indent=2) + "\n").encode())
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main())
