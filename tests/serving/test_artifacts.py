"""Artifacts of every kind behind the service."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from explainable_model import ExplainableModel, export, load
from explainable_model.artifact.answer import Reference
from explainable_model.artifact.metadata import Metadata
from explainable_model.artifact.reference import _reduce_maps, _sample_logits, reference_arrays
from explainable_model.errors import ArtifactError
from explainable_model.explainer.answers import probabilities
from explainable_model.imaging.overlay import palette
from explainable_model.imaging.preprocess import open_photo
from explainable_model.serving import Request, Run, Service
from tests.serving.test_serving import BAD, GOOD, ask, eagerly, heatmap_of, make_photo
from tests.support.cli_nets import CLASS_NAMES, PREPROCESS, named


def test_an_artifact_of_one_batch_size_is_filled_up(service: Service) -> None:
    sizes = []

    def run(image: NDArray[Any], class_idx: NDArray[np.int64]) -> Any:
        sizes.append(len(image))
        return service._run(image, class_idx)

    metadata = replace(service.metadata, image_shape=[4, 3, 32, 32])
    fixed = Service(run, with_reference(metadata, run))
    sizes.clear()
    requests = [Request({"image": image, "class": 2}) for image in list(GOOD.values())[:6]]
    assert [response.status for response in ask(fixed, *requests)] == [200] * 6
    assert sizes == [4, 4]


def test_an_artifact_that_prepares_photos(tmp_path: Path) -> None:
    """Photos of several sizes in one batch get maps of their own sizes; broken ones fail alone."""
    explainable = ExplainableModel(named().model)
    image = torch.zeros(1, 3, *PREPROCESS.size)
    path = export(
        explainable, tmp_path / "photos.onnx", image, preprocess=PREPROCESS, pixels="NHWC", render="overlay",
        class_names=CLASS_NAMES,
    )  # fmt: skip
    session = load(path, threads=1)
    service = Service(session, session.metadata)
    pictures = [*GOOD.values(), next(iter(BAD.values()))[0], *GOOD.values()]
    *good, last = responses = ask(service, *(Request({"image": picture}) for picture in pictures))
    assert [response.status for response in responses] == [200] * len(GOOD) + [400] + [200] * len(GOOD)
    record = json.loads(last.body)
    assert heatmap_of(record).shape == tuple(record["size"][::-1])
    assert record["box"] == [0, 0, *record["size"]]
    logits, explained, _ = eagerly(pictures[-1], -1, tmp_path)
    odds = probabilities(logits, "logits")
    assert odds is not None
    assert record["class_idx"] == explained
    assert record["probability"] == pytest.approx(odds[explained], abs=0.01)
    assert len(good) == 2 * len(GOOD)


def with_reference(metadata: Metadata, run: Run) -> Metadata:
    """The metadata of an artifact that answers as ``run`` does."""
    images = reference_arrays(metadata)[0]
    logits, class_idx, cam = run(images, np.full(len(images), -1, np.int64))
    reference = Reference(
        class_idx=[int(n) for n in class_idx],
        logits=_sample_logits(logits),
        cam=_reduce_maps(cam.astype(np.float64)),
        logits_tolerance=1e-4,
        cam_tolerance=1e-4,
    )
    return replace(metadata, reference=reference)


@pytest.mark.parametrize(
    ("shape", "score"),
    [
        ((1, 1, 1), 0.75),  # one class, a sigmoid after a convolution
        ((3, 2, 2), 3.0),  # one logit per class and pixel
    ],
)
def test_networks_without_one_logit_per_class_have_a_score(
    service: Service, shape: tuple[int, ...], score: float
) -> None:
    def run(image: NDArray[Any], class_idx: NDArray[np.int64]) -> Any:
        _, _, cam = service._run(image, np.zeros(len(image), np.int64))
        return np.full((len(image), *shape), 0.75, np.float32), np.zeros(len(image), np.int64), cam

    metadata = replace(service.metadata, classes=shape[0], class_names=None, output_kind=None)
    (response,) = ask(Service(run, with_reference(metadata, run)), Request({"image": GOOD["png"]}))
    record = json.loads(response.body)
    assert (record["class_idx"], record["class_name"], record["probability"]) == (0, None, None)
    assert [entry["score"] for entry in record["top"]] == ([score] if shape[0] == 1 else [])
    assert record["score"] == score


@pytest.mark.parametrize("wanted", [None, "espresso"])
def test_several_classes_and_what_speaks_against_them(wanted: str | None, tmp_path: Path) -> None:
    model = named().model
    image = PREPROCESS(make_photo())
    explainable = ExplainableModel(model, top_k=2, signed=True, normalize="max")
    path = export(
        explainable, tmp_path / "two.onnx", torch.from_numpy(image), preprocess=PREPROCESS, class_names=CLASS_NAMES
    )
    session = load(path, threads=1)
    fields = {"image": GOOD["png"], **({} if wanted is None else {"class": wanted})}
    (response,) = ask(Service(session, session.metadata), Request(fields))
    first = json.loads(response.body)
    (second,) = first["others"]
    (tmp_path / "photo").write_bytes(GOOD["png"])
    pixels = torch.from_numpy(PREPROCESS(open_photo(tmp_path / "photo")))
    asked = torch.tensor([[-1 if wanted is None else CLASS_NAMES.index(wanted), -1]])
    logits, class_idx, cam = explainable(pixels, asked)
    for k, record in enumerate((first, second)):
        assert record["class_idx"] == int(class_idx[0, k])
        assert record["class_name"] == CLASS_NAMES[record["class_idx"]]
        assert record["score"] == pytest.approx(float(logits[0, record["class_idx"]]), rel=1e-4, abs=1e-5)
        assert record["range"] == [-1, 1]
        assert np.abs(heatmap_of(record) - cam[0, k].numpy()).max() <= 1 / 255 + 1e-3
    assert "top" not in second


def test_maps_without_bounds_keep_their_values(service: Service) -> None:
    def run(image: NDArray[Any], class_idx: NDArray[np.int64]) -> Any:
        logits, explained, cam = service._run(image, class_idx)
        return logits, explained, 40 * cam - 10

    metadata = with_reference(replace(service.metadata, cam_range=[None, None], normalize="none", signed=True), run)
    (response,) = ask(Service(run, metadata), Request({"image": GOOD["png"]}))
    record = json.loads(response.body)
    photo = Image.open(io.BytesIO(GOOD["png"])).convert("RGB")
    cam = run(PREPROCESS(photo), np.asarray([-1]))[2][0]
    assert record["range"] == pytest.approx([cam.min(), cam.max()])
    assert np.abs(heatmap_of(record) - cam).max() <= 0.51 / 255 * (cam.max() - cam.min())


def test_answers_that_are_not_finite_and_faults_of_ours(service: Service) -> None:
    healthy = service._run
    requests = [Request({"image": GOOD["png"]}), Request({"image": GOOD["jpeg"]})]

    def sick(image: NDArray[Any], class_idx: NDArray[np.int64]) -> Any:
        logits, explained, cam = healthy(image, class_idx)
        cam[0] = np.nan
        return logits, explained, cam

    service._run = sick
    first, second = ask(service, *requests)
    assert (first.status, second.status) == (500, 200)
    assert "not finite" in json.loads(first.body)["message"]

    def dying(image: NDArray[Any], class_idx: NDArray[np.int64]) -> Any:
        raise RuntimeError("out of memory")

    service._run = dying
    with pytest.raises(RuntimeError, match="out of memory"):
        service.answer(requests)
    assert [response.status for response in ask(service, Request({"image": b"no picture"}))] == [415]


def test_artifacts_that_cannot_be_served(service: Service) -> None:
    run, metadata = service._run, service.metadata
    with pytest.raises(ArtifactError, match="does not say how a picture becomes its input"):
        Service(run, replace(metadata, preprocess=None))
    more = [{"shape": [None, 4], "dtype": "float32"}]
    with pytest.raises(ArtifactError, match="takes 1 more input"):
        Service(run, replace(metadata, extra_inputs=more))
    with pytest.raises(ArtifactError, match="does not reproduce its recorded answer on this machine: the map differs"):
        Service(lambda image, class_idx: [*run(image, class_idx)[:2], 1 - run(image, class_idx)[2]], metadata)


def test_no_torch_and_no_matplotlib_for_onnx(artifacts: dict[str, Path], tmp_path: Path) -> None:
    """What a server must have: NumPy, Pillow and the artifact's runtime."""
    np.save(tmp_path / "palette.npy", palette())
    (tmp_path / "photo.png").write_bytes(GOOD["png"])
    code = """
import sys
import numpy as np
from explainable_model import load
from explainable_model.serving import Request, Service, Settings
session = load(sys.argv[1])
service = Service(session, session.metadata, Settings(colormap=np.load(sys.argv[2])))
responses, _ = service.answer([Request({"image": open(sys.argv[3], "rb").read()}, accept="image/png")])
assert responses[0].content_type == "image/png", responses[0].body
assert not {"torch", "matplotlib"} & set(sys.modules), sorted(sys.modules)
"""
    files = [str(artifacts["onnx"]), str(tmp_path / "palette.npy"), str(tmp_path / "photo.png")]
    done = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
