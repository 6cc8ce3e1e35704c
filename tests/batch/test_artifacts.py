"""Artifacts of every kind that explains photos: of one batch size, of several classes, signed, of photos as decoded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import explainable_model as xm
from explainable_model import explain, targets
from explainable_model.batch import BatchExplainer, decode_map
from explainable_model.batch.parts import PartWorker
from explainable_model.batch.ray_engine import list_needs
from explainable_model.errors import ArtifactError, InputError
from tests.batch.conftest import export_net
from tests.batch.test_batch_explainer import list_good, to_rows
from tests.support.cli_nets import CLASS_NAMES, PREPROCESS
from tests.support.nets import TinyResNet, seeded


def export(path: Path, options: dict[str, Any], image: torch.Tensor, **keywords: Any) -> Path:
    explainable = xm.ExplainableModel(seeded(TinyResNet(len(CLASS_NAMES))), "layer2", **options)
    return xm.export(explainable, path, image, class_names=CLASS_NAMES, **keywords)


def test_one_batch_size_and_several_classes(artifact: Path, photos: Path, tmp_path: Path) -> None:
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"upsample": "none", "top_k": 2}
    made = export(tmp_path / "three.onnx", options, image, preprocess=PREPROCESS, dynamic_batch=False)
    paths = list_good(photos)
    rows, expected = (to_rows(BatchExplainer(each)({"uri": paths})) for each in (made, artifact))
    for row, other in zip(rows, expected, strict=True):
        assert (row["class"], row["crop"]) == (other["class"], other["crop"])
        assert np.abs(decode_map(row) - decode_map(other)).max() <= 1.1 / 255


def test_signed_maps(photos: Path, tmp_path: Path) -> None:
    made = export_net(tmp_path / "signed.onnx", upsample="none", signed=True, normalize="none")
    paths = list_good(photos)[:5]
    lowest = 0.0
    rows = to_rows(BatchExplainer(made)({"uri": paths, "class": range(5)}))
    for class_idx, (path, row) in enumerate(zip(paths, rows, strict=True)):
        (answer,) = explain([path], made, class_idx)
        assert (row["class"], row["cam_zero"]) == (class_idx, 128)
        assert np.abs(decode_map(row) - answer.cam).max() <= 0.51 * row["cam_scale"]
        lowest = min(lowest, float(answer.cam.min()))
    assert lowest < -0.01


def test_photos_as_decoded(artifact: Path, photos: Path, tmp_path: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = export(tmp_path / "pixels.onnx", {}, image, preprocess=PREPROCESS, pixels="NHWC")
    assert "means over 7 x 7 cells of maps of the photo's size" in BatchExplainer(made).open().rows.cam_source
    paths = list_good(photos)
    rows, expected = (to_rows(BatchExplainer(each)({"uri": paths})) for each in (made, artifact))
    for row, other in zip(rows, expected, strict=True):
        assert row["error"] is None
        assert (row["class"], row["width"], row["height"]) == (other["class"], other["width"], other["height"])
        assert row["crop"] == other["crop"]
        full = functional.interpolate(torch.from_numpy(decode_map(other))[None, None], size=(28, 28), mode="bilinear")
        means = functional.avg_pool2d(full, 4)[0, 0].numpy()
        assert np.abs(decode_map(row) - means).max() < 0.1


def test_further_inputs_are_refused(tmp_path: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = {"upsample": "none", "target": targets.Similarity()}
    made = xm.export(
        xm.ExplainableModel(seeded(TinyResNet(5)), "layer2", **options),
        tmp_path / "similar.onnx",
        image,
        torch.randn(1, 5, generator=torch.Generator().manual_seed(1)),
        preprocess=PREPROCESS,
    )
    with pytest.raises(InputError, match=r"takes 1 input\(s\) besides the photo"):
        BatchExplainer(made).open()


def test_a_preparation_must_be_known(tmp_path: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = export(tmp_path / "bare.onnx", {"upsample": "none"}, image)
    with pytest.raises(InputError, match="does not say how a photo becomes its input"):
        BatchExplainer(made).open()


def test_a_device(artifact: Path, photos: Path, tmp_path: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    made = export(tmp_path / "net.ts", {"upsample": "none"}, image, preprocess=PREPROCESS)
    paths = list_good(photos)[:2]
    here, there = (to_rows(BatchExplainer(made, device=device)({"uri": paths})) for device in (None, "cpu"))
    assert [row["cam"] for row in here] == [row["cam"] for row in there]
    with pytest.raises(ArtifactError, match="nowhere"):
        BatchExplainer(made, device="nowhere").open()
    with pytest.raises(InputError, match="device is 'cuda'; small.onnx runs on the CPU alone"):
        BatchExplainer(artifact, device="cuda").open()


def test_what_an_actor_of_ray_takes(quick: Path, tmp_path: Path) -> None:
    def list_of(**options: Any) -> dict[str, int]:
        return list_needs(PartWorker(tmp_path, BatchExplainer(quick, **options)))

    assert list_of(threads=3) == {"num_cpus": 3}
    assert list_of(device="cpu") == {"num_cpus": 1}
    assert list_of(device="cuda", threads=2) == {"num_cpus": 2, "num_gpus": 1}
    with pytest.raises(
        InputError, match="device is 'cuda:1'; on Ray each actor gets a GPU of its own: expected 'cuda'"
    ):
        list_of(device="cuda:1")
