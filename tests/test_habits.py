"""What users of other libraries write: the library does what is meant, or says at once what to write."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from explainable_model import ExplainableModel, NamedModel, Preprocess, export, load
from explainable_model.errors import InputError, LayerError, LoweringError
from tests.support.nets import TinyResNet, images, seeded

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
V1 = torchvision.transforms
NORMALIZE = V1.Normalize(MEAN, STD)
BICUBIC = V1.InterpolationMode.BICUBIC


def explainable(**options: Any) -> ExplainableModel:
    return ExplainableModel(seeded(TinyResNet(5)), "layer2", **options)


@pytest.mark.parametrize("name", ["GradCAM", "Grad-CAM", "grad_cam", "GRADCAM"])
def test_names_of_methods(name: str) -> None:
    assert explainable(method=name).method == "gradcam"
    assert explainable(method="GradCAM++").method == "gradcam++"
    with pytest.raises(ValueError, match=r"method is list; expected the name of one method.*once for each method"):
        explainable(method=["gradcam", "layercam"])


@pytest.mark.parametrize(
    "classes", [[3, 1], (3, 1), np.array([3, 1]), np.array([3, 1], np.int32), torch.tensor([3, 1]).int()]
)
def test_classes_as_lists_and_arrays(classes: Any) -> None:
    image = images(2)
    wanted = explainable()(image, torch.tensor([3, 1]))
    answer = explainable()(image, classes)
    assert answer.class_idx.tolist() == [3, 1]
    assert torch.equal(answer.cam, wanted.cam)


@pytest.mark.parametrize("class_idx", [3, np.int64(3), torch.tensor(3)])
def test_one_class_for_every_image(class_idx: Any) -> None:
    assert explainable()(images(2), class_idx).class_idx.tolist() == [3, 3]
    with pytest.raises(InputError, match=r"class_idx has shape \(\); expected \(2, 2\), 2 classes per image"):
        explainable(top_k=2)(images(2), class_idx)


def test_classes_of_an_artifact(tmp_path: Path) -> None:
    session = load(export(explainable(), tmp_path / "net.ts", images(1)))
    image = images(2).numpy()
    for classes, same in (([3, 1], [3, 1]), (np.array([3, 1], np.int32), [3, 1]), (3, [3, 3])):
        answer = session(image, classes)
        assert answer.class_idx.tolist() == same
        assert np.array_equal(answer.cam, session(image, np.array(same)).cam)


def test_images_that_are_no_tensors() -> None:
    with pytest.raises(InputError, match=r"image is ndarray.*torch\.from_numpy\(image\)"):
        explainable()(images(1).numpy())
    with pytest.raises(InputError, match=r"image is Image.*torch\.from_numpy\(Preprocess"):
        explainable()(Image.new("RGB", (32, 32)))


def test_progress_is_true_or_a_function(tmp_path: Path) -> None:
    assert explainable(progress=True).progress is not None
    assert explainable(progress=False).progress is None
    with pytest.raises(TypeError, match="progress is 'yes'; expected True, or a function"):
        explainable(progress="yes")
    with pytest.raises(TypeError, match="progress is 'yes'; expected True, or a function"):
        export(explainable(), tmp_path / "net.ts", images(1), progress="yes")


def test_numbers_for_a_square_and_a_gray_input() -> None:
    assert Preprocess(224) == Preprocess((224, 224)) == Preprocess([224, 224])  # type: ignore[arg-type]
    assert Preprocess(8, 0.5, 0.25) == Preprocess((8, 8), (0.5,), (0.25,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"size is \(224,\); expected \(height, width\)"):
        Preprocess((224,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "wanted"),
    [
        ([V1.Resize(36), V1.CenterCrop(32), V1.ToTensor(), NORMALIZE], Preprocess((32, 32), MEAN, STD, 36)),
        (
            [V1.Resize(40, interpolation=BICUBIC), V1.CenterCrop((24, 32)), V1.ToTensor(), NORMALIZE],
            Preprocess((24, 32), MEAN, STD, 40, "bicubic"),
        ),
        ([V1.Resize((24, 32)), V1.ToTensor()], Preprocess((24, 32), (0.0,) * 3, (1.0,) * 3)),
        (
            [V1.Grayscale(), V1.Resize((32, 32)), V1.ToTensor(), V1.Normalize(0.5, 0.25)],
            Preprocess((32, 32), (0.5,), (0.25,)),
        ),
        (
            [v2.ToImage(), v2.Resize(36), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True), NORMALIZE],
            Preprocess((32, 32), MEAN, STD, 36),
        ),
    ],
)  # fmt: skip
def test_a_compose_becomes_a_preprocess(steps: list[Any], wanted: Preprocess) -> None:
    compose = V1.Compose(steps)
    translated = NamedModel(torch.nn.Identity(), compose).preprocess
    assert translated == wanted
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    assert np.abs(translated(photo)[0] - compose(photo).numpy()).max() < 2 / 255 / min(STD)


def test_export_takes_a_compose(tmp_path: Path) -> None:
    compose = V1.Compose([V1.Resize(36), V1.CenterCrop(32), V1.ToTensor(), NORMALIZE])
    path = export(explainable(), tmp_path / "net.ts", images(1), preprocess=compose)
    assert load(path).metadata.preprocess == Preprocess((32, 32), MEAN, STD, 36)
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert NamedModel(torch.nn.Identity(), preset).preprocess == Preprocess((224, 224), resize=256)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([V1.RandomResizedCrop(32), V1.ToTensor()], "RandomResizedCrop"),
        ([V1.Resize(36), V1.ToTensor()], "no fixed size"),
        ([V1.Resize((32, 32))], "no ToTensor"),
        ([V1.Resize(32), V1.CenterCrop(40), V1.ToTensor()], "larger than the photo resized"),
        ([NORMALIZE, V1.ToTensor(), V1.Resize(32)], "Normalize"),
    ],
)
def test_transforms_that_are_refused(steps: list[Any], problem: str, tmp_path: Path) -> None:
    for transform in (V1.Compose(steps), steps[0] if len(steps) == 1 else V1.Compose(steps)):
        with pytest.raises(InputError, match=rf"preprocess has .*{re.escape(problem)}.*Preprocess\(\(224, 224\)"):
            export(explainable(), tmp_path / "net.ts", images(1), preprocess=transform)
    with pytest.raises(InputError, match="preprocess has function"):
        export(explainable(), tmp_path / "net.ts", images(1), preprocess=lambda photo: photo)
    assert list(tmp_path.iterdir()) == []


TRACERS = {
    "torch.export": lambda explainable, image: torch.export.export(explainable, (image,)),
    "torch.onnx": lambda explainable, image: torch.onnx.export(explainable, (image,), dynamo=True, verbose=False),
    "torch.jit.trace": lambda explainable, image: torch.jit.trace(explainable, (image,)),
    "torch.fx": lambda explainable, _: torch.fx.symbolic_trace(explainable),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
@pytest.mark.parametrize("trace", TRACERS.values(), ids=TRACERS)
def test_tracers_point_to_export(trace: Any) -> None:
    with pytest.raises(Exception, match=r"explainable_model\.export\(explainable, 'network.onnx', image\)"):
        trace(explainable(), images(1))


class HalfScripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Conv2d(3, 6, 3)
        self.head = torch.nn.Sequential(torch.nn.Conv2d(6, 6, 3), torch.nn.ReLU())
        self.fc = torch.nn.Linear(6, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.fc(self.head(self.body(image)).mean((2, 3)))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_scripted_part_of_a_network(tmp_path: Path) -> None:
    network: Any = seeded(HalfScripted())
    wanted = ExplainableModel(network, "body")(images(2))
    network.head = torch.jit.script(network.head)
    found = ExplainableModel(network)
    assert torch.allclose(found(images(2)).cam, wanted.cam, atol=1e-6)
    assert found.target_layer == "body"
    for layer in ("head", "head.0", network.head):
        with pytest.raises(LayerError, match="is a TorchScript module, which has no forward hooks"):
            ExplainableModel(network, layer)
    with pytest.raises(LoweringError, match="has a TorchScript module, 'head', which torch.export cannot follow"):
        export(found, tmp_path / "network.onnx", images(2))
    assert list(tmp_path.iterdir()) == []
