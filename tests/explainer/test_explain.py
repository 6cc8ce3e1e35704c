"""``explain``: one call from a photo to an answer that shows itself."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import explainable_model as xm
from explainable_model.errors import ArtifactError, InputError, ModelError
from explainable_model.imaging.overlay import overlay
from tests.support import cli_nets
from tests.support.nets import TinyResNet, seeded


@pytest.fixture(scope="module")
def named() -> xm.NamedModel:
    return cli_nets.named()


@pytest.fixture(scope="module")
def artifact(named: xm.NamedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "cats.onnx"
    image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    explainable = xm.ExplainableModel(named.model, "layer2", upsample="bicubic")
    return xm.export(explainable, path, image, preprocess=named.preprocess, class_names=named.class_names)


def expected(photo: Image.Image, class_idx: int | None = None) -> tuple[Any, int, Any]:
    image = torch.from_numpy(cli_nets.PREPROCESS(photo))
    network = seeded(TinyResNet(5))
    classes = None if class_idx is None else torch.tensor([class_idx])
    logits, explained, cam = xm.ExplainableModel(network, "layer2", upsample="bicubic")(image, classes)
    return logits[0].numpy(), int(explained), cam[0].numpy()


def test_every_kind_of_photo_and_of_model_gives_the_same_answer(
    photos: list[Path], named: xm.NamedModel, artifact: Path
) -> None:
    with Image.open(photos[0]) as opened:
        picture = opened.convert("RGB")
    pixels = np.asarray(picture)
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    logits, class_idx, cam = expected(picture)
    wrapped = xm.ExplainableModel(named.model, "layer2", upsample="bicubic")
    known = {"preprocess": named.preprocess, "class_names": named.class_names}
    answers = [
        *(
            xm.explain(each, named, target_layer="layer2")
            for each in (photos[0], str(photos[0]), picture, pixels, tensor)
        ),
        xm.explain(tensor.double() / 255, named, target_layer="layer2"),
        xm.explain(pixels / 255, named, target_layer="layer2"),
        xm.explain(photos[0], named.model, target_layer="layer2", **known),
        xm.explain(photos[0], wrapped, **known),
        xm.explain(photos[0], artifact),
        xm.explain(photos[0], str(artifact)),
        xm.explain(photos[0], xm.load(artifact)),
    ]
    odds = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for answer in answers:
        assert (answer.class_idx, answer.class_name) == (class_idx, cli_nets.CLASS_NAMES[class_idx])
        assert answer.logits == pytest.approx(logits, abs=1e-5)
        assert answer.probabilities == pytest.approx(odds, abs=1e-5)
        assert answer.probability == pytest.approx(odds[class_idx], abs=1e-5)
        assert answer.score == pytest.approx(logits[class_idx], abs=1e-5)
        assert np.abs(np.asarray(answer) - cam).max() < 1e-4
        assert (answer.method, answer.layers) == ("gradcam", ("layer2",))
        assert [each["class_idx"] for each in answer.top(2)] == np.argsort(-logits)[:2].tolist()


def test_classes_by_number_and_by_name(photos: list[Path], named: xm.NamedModel) -> None:
    with Image.open(photos[0]) as opened:
        picture = opened.convert("RGB")
    for wanted, class_idx in ((3, 3), ("tiger cat", 1), ("TABBY", 0), (np.int64(2), 2), (torch.tensor(4), 4)):
        answer = xm.explain(picture, named, wanted, target_layer="layer2")
        assert answer.class_idx == class_idx
        assert np.abs(answer.cam - expected(picture, class_idx)[2]).max() < 1e-5
    several = xm.explain(picture, named, [3, "tiger cat"], target_layer="layer2")
    assert [each.class_idx for each in several] == [3, 1]
    best = xm.explain(picture, named, top_k=3, target_layer="layer2")
    assert [each.class_idx for each in best] == [each["class_idx"] for each in best[0].top(3)]
    methods = xm.explain(picture, named, method=["gradcam", "layercam"])
    assert [each.method for each in methods] == ["gradcam", "layercam"]
    for wanted, message in (
        (9, "The class is 9; expected 0 to 4"),
        ("dog", "no class 'dog'"),
        (True, "class_idx is True"),
    ):
        with pytest.raises(InputError, match=message):
            xm.explain(picture, named, wanted)


def test_folders_patterns_and_batches_stream(photos: list[Path], named: xm.NamedModel) -> None:
    folder = photos[0].parent
    (folder / "deep").mkdir()
    third = folder / "deep" / "third.JPG"
    Image.new("RGB", (40, 50), "red").save(third)
    (folder / "notes.txt").write_text("no photo")
    done: list[tuple[int, int]] = []
    paths = sorted([*photos, third])
    assert [each.path for each in xm.explain(folder, named)] == sorted(folder.rglob("*.[pjPJ]*"))
    assert [each.path for each in xm.explain(f"{folder}/*.png", named)] == sorted(folder.glob("*.png"))
    found = list(xm.explain(paths, named, progress=lambda now, count: done.append((now, count))))
    assert [each.path for each in found] == paths
    assert done == [(1, len(paths)), (2, len(paths)), (3, len(paths))][: len(paths)]
    batch = np.zeros((2, 20, 30, 3), np.uint8)
    assert [each.name for each in xm.explain(batch, named)] == ["photo 1", "photo 2"]
    stream = xm.explain(iter([photos[0], folder / "missing.png"]), named)
    assert next(stream).path == photos[0]
    with pytest.raises(InputError, match="There is no file"):
        next(stream)


def test_the_answer_draws_where_the_network_looked(photos: list[Path], named: xm.NamedModel, tmp_path: Path) -> None:
    answer = xm.explain(photos[0], named, target_layer="layer2")
    with Image.open(photos[0]) as photo:
        box = cli_nets.PREPROCESS.box(*photo.size)
        wanted = overlay(photo, answer.cam, box=box)
        assert answer.overlay().tobytes() == wanted.tobytes()
        assert answer.heatmap().size == photo.size
    inside = answer.heatmap().getpixel((int(box[0]) + 1, int(box[1]) + 1))
    assert inside != (232, 232, 232)
    for name, picture in (("a.png", "panel"), ("a.jpg", "overlay"), ("a.webp", "heatmap")):
        path = answer.save(tmp_path / name, picture)
        with Image.open(path) as saved:
            assert saved.format == {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[path.suffix[1:]]
            assert saved.size == getattr(answer, picture)().size
    with pytest.raises(InputError, match=r"ends in '.tif'; expected one of .png"):
        answer.save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="picture is 'photo'; expected one of panel, overlay, heatmap"):
        answer.save(tmp_path / "b.png", "photo")
    with pytest.raises(ArtifactError, match="cannot be written"):
        answer.save(tmp_path / "missing" / "b.png")
    assert not list(tmp_path.rglob("b.*"))
    assert not list(tmp_path.glob("a.tif"))


def test_notebooks_show_answers(photos: list[Path], named: xm.NamedModel) -> None:
    answer = xm.explain(photos[0], named, "tiger cat", target_layer="layer2")
    with Image.open(io.BytesIO(answer._repr_png_())) as shown:
        assert shown.size == answer.panel().size
    page = answer._repr_html_()
    assert "data:image/png;base64," in page
    assert page.count("<li>") == 5
    assert "tiger cat" in repr(answer)
    assert "gradcam at layer2; map 32 x 32" in repr(answer)
    several = xm.explain(photos[0], named, [0, 1])
    with Image.open(io.BytesIO(several._repr_png_())) as shown:
        assert shown.width > 2 * 224


def test_numbers_for_tables(photos: list[Path], named: xm.NamedModel) -> None:
    answer = xm.explain(photos[0], named, target_layer="layer2")
    record = json.loads(answer.to_json())
    assert record == answer.to_dict()
    assert record["photo"] == str(photos[0])
    assert record["layers"] == ["layer2"]
    left, top, right, bottom = record["bounding_box"]
    box = answer.box
    assert box[0] <= left < right <= box[2]
    assert box[1] <= top < bottom <= box[3]
    column, row = answer.hottest
    assert left <= column <= right
    assert top <= row <= bottom
    stream = io.StringIO()
    table = csv.DictWriter(stream, answer.to_row())
    table.writeheader()
    table.writerow(answer.to_row())
    read = next(csv.DictReader(io.StringIO(stream.getvalue())))
    assert float(read["left"]) == left
    assert read["class_name"] == answer.class_name
    mask = np.zeros(answer.photo.size[::-1])
    mask[:, : int(box[0] + (box[2] - box[0]) / 2)] = 1
    share = answer.compute_share_inside(mask)
    other = answer.compute_share_inside(1 - mask)
    assert share is not None
    assert other is not None
    assert share + other == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match=r"mask has shape \(2, 2\); expected \(\d+, \d+\), that of the photo"):
        answer.compute_share_inside(np.ones((2, 2)))


def test_preparations_of_other_libraries(photos: list[Path]) -> None:
    import timm
    from torchvision import transforms

    network = seeded(TinyResNet(5))
    compose = transforms.Compose(
        [
            transforms.Resize(36),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    config = {"input_size": (3, 32, 32), "crop_pct": 0.888, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    processor = {"size": {"shortest_edge": 36}, "crop_size": 32, "do_center_crop": True, "resample": 2}
    with Image.open(photos[0]) as photo:
        wanted = expected(photo.convert("RGB"))[2]
    for preprocess in (
        cli_nets.PREPROCESS,
        compose,
        config,
        {**processor, **{f"image_{n}": config[n] for n in ("mean", "std")}},
    ):
        answer = xm.explain(photos[0], network, preprocess=preprocess, target_layer="layer2")
        assert np.abs(answer.cam - wanted).max() < 1e-4
    with pytest.raises(
        InputError, match=r"It is not known how a photo becomes the input of this TinyResNet; pass preprocess="
    ):
        xm.explain(photos[0], network)
    with pytest.raises(InputError, match="RandomRotation"):
        xm.explain(photos[0], network, preprocess=transforms.Compose([transforms.RandomRotation(3), compose]))
    lite = timm.create_model("test_resnet", pretrained=False).eval()
    answer = xm.explain(photos[0], lite)
    assert answer.explainer.preprocess.size == lite.pretrained_cfg["input_size"][1:]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a, n: xm.explain("missing.png", n), InputError, "There is no file missing.png"),
        (
            lambda a, n: xm.explain(np.zeros((3, 8, 8), np.uint8), n),
            InputError,
            r"expected \(H, W, 3\).*transpose\(1, 2, 0\)",
        ),
        (lambda a, n: xm.explain(torch.randn(3, 8, 8), n), InputError, "expected floats from 0 to 1, before"),
        (lambda a, n: xm.explain(np.zeros((8, 8, 3), np.int64), n), InputError, "The photo is int64"),
        (lambda a, n: xm.explain(3, n), InputError, "photos is int|A photo is int"),
        (lambda a, n: xm.explain(a, 7), TypeError, "model is int; expected an nn.Module"),
        (lambda a, n: xm.explain(a, "nothing.onnx"), ValueError, "nothing.onnx"),
        (lambda a, n: xm.explain(a, "resnet18"), InputError, "a name such as torchvision:resnet18"),
        (lambda a, n: xm.explain(a, "torchvision:resnet18"), ModelError, "would have random weights"),
        (lambda a, n: xm.explain(a, n, pretrained=True), InputError, "belong to a network by its name"),
        (lambda a, n: xm.explain(a, n, method=[]), InputError, "method is empty"),
        (lambda a, n: xm.explain(a, n, class_names="cat"), InputError, "expected one name per class"),
        (lambda a, n: xm.explain(a, n, class_names={1: "cat"}), InputError, r"indexes \[1\]; expected each from 0"),
        (lambda a, n: xm.explain(a, n, output_kind="odds"), InputError, "output_kind is 'odds'"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    call: Any, error: type[Exception], message: str, named: xm.NamedModel
) -> None:
    with pytest.raises(error, match=message):
        list(call(Image.new("RGB", (40, 40)), named))


def test_an_artifact_keeps_its_method(photos: list[Path], artifact: Path) -> None:
    with pytest.raises(InputError, match="Leave out method: an artifact has its layer, its method"):
        xm.explain(photos[0], artifact, method="layercam")


def test_an_empty_folder_is_refused(tmp_path: Path, named: xm.NamedModel) -> None:
    with pytest.raises(InputError, match="holds no photo; expected files ending in"):
        list(xm.explain(tmp_path, named))
    with pytest.raises(InputError, match="No file matches"):
        list(xm.explain(f"{tmp_path}/*.jpg", named))
