"""``evaluate`` and ``compare`` on networks and on files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import explainable_model as xm
from explainable_model.artifact.runner import PredictingRunner
from explainable_model.errors import InputError
from explainable_model.evaluation import compare, evaluate, randomize_by_layer
from explainable_model.evaluation.mosaics import Photo, join_photos, measure_mosaic
from explainable_model.evaluation.randomization import list_weighted, randomize_network
from explainable_model.evaluation.subject import remember_scores
from explainable_model.networks.named import NamedModel
from tests.evaluation.conftest import run_without_torch
from tests.support import cli_nets
from tests.support.nets import TinyResNet, seeded

FEW = ("insertion", "average_drop", "class_sensitivity")


def test_a_file_has_the_figures_of_its_network(named: NamedModel, artifact: Path, photos: list[Path]) -> None:
    of_file = evaluate(artifact, photos, measures=FEW)
    of_network = evaluate(named, photos, measures=FEW, layers=["layer2"])
    for measure in FEW:
        file, network = of_file.summary["gradcam"][measure], of_network.summary["gradcam at layer2"][measure]
        assert file is not None
        assert network is not None
        assert file.mean == pytest.approx(network.mean, abs=1e-3)
        assert file.low <= file.mean <= file.high
        assert file.photos == 6


def test_a_photo_s_value_is_that_of_the_formula(named: NamedModel, photos: list[Path]) -> None:
    found = evaluate(named, photos[0], measures=["average_drop"], layers=["layer2"])
    with Image.open(photos[0]) as photo:
        image = torch.from_numpy(cli_nets.PREPROCESS(photo))
    logits, class_idx, cam = xm.ExplainableModel(seeded(TinyResNet(5)), "layer2", upsample="bicubic")(image)
    score = logits.softmax(1)[0, class_idx]
    masked = named.model(image * cam[:, None]).detach().softmax(1)[0, class_idx]
    want = max(0.0, float((score - masked) / score))
    assert found.rows[0]["values"]["average_drop"] == pytest.approx(want, abs=1e-5)
    assert found.rows[0]["class_idx"] == int(class_idx)


def test_the_baselines_stand_beside_it(artifact: Path, photos: list[Path]) -> None:
    found = evaluate(artifact, photos, measures=["class_sensitivity"]).summary
    assert list(found) == ["gradcam", "random map", "center map"]
    center, chance = found["center map"]["class_sensitivity"], found["random map"]["class_sensitivity"]
    assert center is not None
    assert chance is not None
    assert center.mean == pytest.approx(1)
    assert abs(chance.mean) < 0.1


def test_a_file_predicts_for_its_network(named: NamedModel, artifact: Path, photos: list[Path]) -> None:
    asked: dict[str, Any] = {"measures": FEW, "layers": ["layer2", "layer1"]}
    plain, fast = evaluate(named, photos, **asked), evaluate(named, photos, predictor=artifact, **asked)
    assert list(plain.summary) == list(fast.summary)
    for before, after in zip(plain.rows, fast.rows, strict=True):
        assert before["values"] == pytest.approx(after["values"], abs=1e-4)
    other = NamedModel(seeded(TinyResNet(5), seed=9), named.preprocess)
    with pytest.raises(InputError, match="predictor gives other scores than the network, by up to 0"):
        evaluate(other, photos, predictor=artifact, measures=["deletion"])
    few = NamedModel(seeded(TinyResNet(4)), named.preprocess)
    with pytest.raises(InputError, match="predictor gives other scores than the network; expected"):
        evaluate(few, photos, predictor=artifact, measures=["deletion"])


def test_each_image_is_predicted_once() -> None:
    asked: list[int] = []

    def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
        asked.append(len(images))
        return images.astype(np.float64).sum((1, 2, 3))

    remembered, images = remember_scores(predict), np.random.default_rng(0).random((4, 3, 5, 5), np.float32)
    assert remembered(images[[0, 1, 1]]) == pytest.approx(images[[0, 1, 1]].sum((1, 2, 3)))
    assert remembered(images[[1, 2, 3]]) == pytest.approx(images[[1, 2, 3]].sum((1, 2, 3)))
    assert remembered(images) == pytest.approx(images.sum((1, 2, 3)))
    assert asked == [2, 2]


def test_an_artifact_predicts_without_its_map(named: NamedModel, photos: list[Path], folder: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(named.model, "layer2", "scorecam")
    session = xm.load(xm.export(explainable, folder / "scorecam.onnx", image, preprocess=named.preprocess))
    explained = []
    runner = session.runner
    assert isinstance(runner, PredictingRunner)
    session.runner = replace(runner, run=lambda *arrays: (explained.append(len(arrays[0])), runner.run(*arrays))[1])
    evaluate(session, photos, measures=["deletion"])
    assert explained == [1] * len(photos)


def test_masks_and_their_geometry(artifact: Path, folder: Path, photos: list[Path]) -> None:
    measures = ["pointing_game", "energy_in_mask", "iou"]
    of_folder = evaluate(artifact, photos, measures=measures, masks=folder / "masks")
    arrays = {path.stem: np.asarray(Image.open(folder / "masks" / path.name)) for path in photos}
    of_arrays = evaluate(artifact, photos, measures=measures, masks=arrays)
    of_function = evaluate(artifact, photos, measures=measures, masks=lambda name: arrays[Path(name).stem])
    assert of_folder.rows == of_arrays.rows == of_function.rows
    # the share of the center crop that each mask fills is what a constant map holds
    center = [row for row in of_folder.rows if row["candidate"] == "random map"]
    for row, path in zip(center, photos, strict=True):
        left, top, right, bottom = cli_nets.PREPROCESS.box(64, 48)
        inside = arrays[path.stem][round(top) : round(bottom), round(left) : round(right)]
        assert row["values"]["energy_in_mask"] == pytest.approx((inside > 0).mean(), abs=0.03)


def test_a_second_run_continues(artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    whole = evaluate(artifact, photos, measures=FEW, rows=rows)
    lines = rows.read_text().splitlines()
    rows.write_text("\n".join(lines[:5]) + "\n" + lines[5][:20])  # killed while it wrote the fifth row
    asked: list[int] = []
    again = evaluate(artifact, photos, measures=FEW, rows=rows, progress=lambda done, _: asked.append(done))
    assert again.rows == whole.rows
    assert rows.read_text().splitlines() == lines
    assert asked == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InputError, match="another evaluation"):
        evaluate(artifact, photos, measures=FEW, rows=rows, seed=1)
    with pytest.raises(InputError, match="another evaluation"):
        evaluate(artifact, photos, measures=FEW, rows=rows, output_kind="sigmoid_logits")
    with pytest.raises(InputError, match="another evaluation"):
        evaluate(artifact, photos, measures=FEW, rows=rows, masks=rows.parent)


def test_photos_and_masks_that_changed_are_measured_again(artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    rows, names = tmp_path / "rows.jsonl", [path.name for path in photos[:2]]

    def measure(left: float, of: list[Path] = photos[:2]) -> dict[tuple[str, str], float]:
        masks = {}
        for path in of:
            with Image.open(path) as picture:
                masks[path.name] = np.arange(picture.width)[None].repeat(picture.height, 0) >= left * picture.width
        found = evaluate(artifact, of, measures=["energy_in_mask"], masks=masks, rows=rows)
        return {(row["photo"], row["candidate"]): row["values"]["energy_in_mask"] for row in found.rows}

    right_half, lines = measure(0.5), rows.read_text().splitlines()
    assert measure(0.5) == right_half
    assert rows.read_text().splitlines() == lines
    most = measure(0.2)
    assert all(most[key] > value for key, value in right_half.items())
    assert measure(0.2) == most
    other = tmp_path / names[0]
    Image.open(photos[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    assert {name for name, _ in measure(0.5, [other, photos[2]])} == {other.name, photos[2].name}


def test_the_table_the_ranking_and_the_files(artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    found = evaluate(artifact, photos, measures=[*FEW, "sparseness"])
    best = found.rank("insertion")
    assert [value.mean for _, value in best] == sorted((value.mean for _, value in best), reverse=True)
    assert found.rank("average_drop")[0][1].mean <= found.rank("average_drop")[-1][1].mean
    with pytest.raises(InputError, match="sparseness only describes"):
        found.rank("sparseness")
    with pytest.raises(InputError, match="'iou' was not measured"):
        found.rank("iou")
    record = json.loads(found.save(tmp_path / "out.json").read_text())
    assert record["summary"]["gradcam"]["insertion"]["photos"] == 6
    assert record["measures"]["average_drop"]["better"] == "smaller"
    table = found.save(tmp_path / "out.csv").read_text().splitlines()
    assert table[0] == "photo,candidate,class_idx,insertion,average_drop,class_sensitivity,sparseness"
    assert len(table) == 1 + 3 * len(photos)
    page = found.save(tmp_path / "out.html").read_text()
    assert page.count("<section>") == 4
    assert "http" not in page.replace("arXiv", "")
    with pytest.raises(InputError, match=r"ends in '\.txt'; expected one of \.json, \.csv, \.html"):
        found.save(tmp_path / "out.txt")
    assert "insertion ↑" in str(found)


def test_methods_and_layers(named: NamedModel, photos: list[Path]) -> None:
    found = evaluate(
        named, photos[:2], measures=["complexity"], methods=["gradcam", "hirescam"], layers=["layer1", "layer2"]
    )
    assert found.candidates[:4] == [
        "gradcam at layer1", "hirescam at layer1", "gradcam at layer2", "hirescam at layer2",
    ]  # fmt: skip


def test_photos_that_the_artifact_prepares(named: NamedModel, photos: list[Path], tmp_path: Path) -> None:
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(named.model, "layer2")
    found = {}
    for pixels in ("NCHW", "NHWC"):
        path = xm.export(explainable, tmp_path / f"{pixels}.onnx", image, preprocess=named.preprocess, pixels=pixels)
        found[pixels] = evaluate(path, photos[:3], measures=["insertion", "deletion", "road"])
    assert found["NCHW"].rows == found["NHWC"].rows


def test_a_fixed_batch(named: NamedModel, artifact: Path, photos: list[Path], tmp_path: Path) -> None:
    image = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(named.model, "layer2", upsample="bicubic")
    path = xm.export(explainable, tmp_path / "three.onnx", image, preprocess=named.preprocess, dynamic_batch=False)
    fixed, free = (evaluate(each, photos[:2], measures=["insertion"]) for each in (path, artifact))
    for a, b in zip(fixed.rows, free.rows, strict=True):
        assert a["values"]["insertion"] == pytest.approx(b["values"]["insertion"], abs=1e-4)


def test_one_output_of_two_classes(photos: list[Path]) -> None:
    found = evaluate(cli_nets.binary(), photos[:2], measures=["insertion", "deletion"])
    assert all(0 <= row["values"]["insertion"] <= 1 for row in found.rows)


def test_a_segmentation_is_refused(photos: list[Path]) -> None:
    with pytest.raises(InputError, match="the measures read one value per class"):
        evaluate(cli_nets.segmenter(), photos[:1], measures=["insertion"])


def test_randomization(named: NamedModel, photos: list[Path]) -> None:
    before = {name: weight.clone() for name, weight in named.model.state_dict().items()}
    found = evaluate(named, photos[:3], measures=["randomization"], layers=["layer2"]).summary
    assert all(torch.equal(weight, before[name]) for name, weight in named.model.state_dict().items())
    sane, center = found["gradcam at layer2"]["randomization"], found["center map"]["randomization"]
    assert sane is not None
    assert center is not None
    assert sane.mean < 0.9
    assert center.mean == pytest.approx(1)


def test_weights_are_permuted_from_the_output_down() -> None:
    network = seeded(TinyResNet(5))
    copy = randomize_network(network, top=1)
    modules = list(zip(list_weighted(network), list_weighted(copy), strict=True))
    changed = [not torch.equal(a.weight, b.weight) for a, b in modules]  # type: ignore[arg-type]
    assert changed == [False] * (len(modules) - 1) + [True]
    last, permuted = modules[-1]
    torch.testing.assert_close(last.weight.flatten().sort()[0], permuted.weight.flatten().sort()[0])  # type: ignore


def test_the_cascade_names_each_module(named: NamedModel) -> None:
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    explainable = xm.ExplainableModel(named.model, "layer2")
    steps = list(randomize_by_layer(explainable, image))
    assert len(steps) == len(list_weighted(named.model))
    assert steps[0][0] == "fc"
    assert all(-1 <= value <= 1 for _, value in steps)
    assert randomize_by_layer(xm.ExplainableModel(named.model, "layer2", "eigencam"), image).__next__()[1] == 1


def test_a_mosaic_knows_where_each_class_is() -> None:
    photos = [Photo(str(n), np.full((3, 8, 10), n, np.float32), n) for n in range(4)]
    mosaic = join_photos(photos)
    np.testing.assert_array_equal(mosaic[:, 1, 1], [0, 0, 0])
    np.testing.assert_array_equal(mosaic[:, 7, 9], [3, 3, 3])
    perfect = measure_mosaic(photos, lambda image, class_idx: (image[0] == class_idx).astype(np.float64))
    assert perfect == {"grid_pointing": 1, "discrimination": 1}
    blind = measure_mosaic(photos, lambda image, class_idx: (image[0] == 2).astype(np.float64))
    assert blind == {"grid_pointing": 0.25, "discrimination": 0.5}


def test_compare(named: NamedModel, artifact: Path, photos: list[Path]) -> None:
    same = compare(artifact, artifact, photos)
    assert same.summary["same_class"].mean == 1
    assert same.summary["difference"].mean == 0
    other = cli_nets.other()
    found = compare(named, other, photos, target_layer="layer2")
    assert len(found.rows) == 6
    assert found.worst[0]["same_class"] <= found.worst[-1]["same_class"]
    row = next(row for row in found.rows if row["photo"].endswith("photo3.png"))
    a = xm.explain(photos[3], named, target_layer="layer2")
    b = xm.explain(photos[3], other, a.class_idx, target_layer="layer2")
    assert row["class_a"] == a.class_idx
    assert row["correlation"] == pytest.approx(np.corrcoef(a.cam.ravel(), b.cam.ravel())[0, 1], abs=1e-6)
    assert "Worst photos:" in str(found)


def test_a_file_of_onnx_is_measured_without_torch(artifact: Path, photos: list[Path]) -> None:
    done = run_without_torch(f"print(evaluate({str(artifact)!r}, {str(photos[0])!r}, measures=['insertion', 'road']))")
    assert done.returncode == 0, done.stderr
    assert "insertion" in done.stdout
