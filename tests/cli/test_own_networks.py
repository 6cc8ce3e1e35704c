"""Networks of a user's own files: ``--model ./my_model.py:factory``, and how their photos are prepared."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from explainable_model import ExplainableModel, Preprocess, read_metadata
from explainable_model.errors import InputError
from explainable_model.networks.known import preprocess_of
from tests.support.cli_run import Run
from tests.support.nets import TinyResNet, seeded

FILE = """
from neighbor import CLASSES
from tests.support.nets import TinyResNet, seeded

def make():
    return seeded(TinyResNet(CLASSES))

def broken():
    raise RuntimeError("no weights here.")

def stopped():
    raise SystemExit(3)

def state():
    return make().state_dict()

net = make()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file that imports its neighbor, and names of classes."""
    folder = tmp_path / "own nets"
    folder.mkdir()
    (folder / "my_model.py").write_text(FILE)
    (folder / "neighbor.py").write_text("CLASSES = 3\n")
    (folder / "unreadable.py").write_text("def make(:\n")
    (folder / "missing.py").write_text("import a_package_that_nobody_has\n")
    (folder / "names.txt").write_text("cat\ndog\nbird\n")
    monkeypatch.chdir(folder)
    return folder


SAID = ("--size", "32x40", "--mean", "0.5,0.4,0.3", "--std", "0.25")


def test_a_plain_module_is_enough(
    capsys: pytest.CaptureFixture[str], own: Path, photos: list[Path], tmp_path: Path
) -> None:
    model = ("--model", "./my_model.py:make")
    options = ("--size", "32x40", "--mean", "0.5,0.4,0.3", "--std", "0.25", "--class-names", "names.txt")
    run = Run(capsys, "explain", photos[0], *model, *options, "--out", tmp_path / "out", "--json")
    assert run.code == 0, run.err
    (found,) = run.record["photos"]
    preprocess = Preprocess((32, 40), (0.5, 0.4, 0.3), (0.25, 0.25, 0.25))
    with Image.open(photos[0]) as photo:
        image = torch.from_numpy(preprocess(photo.convert("RGB")))
    logits, class_idx, _ = ExplainableModel(seeded(TinyResNet(3)))(image)
    assert found["class_idx"] == int(class_idx)
    assert found["class_name"] == ("cat", "dog", "bird")[int(class_idx)]
    assert found["score"] == pytest.approx(float(logits[0, class_idx]), abs=1e-5)
    target = tmp_path / "own.ts"
    exported = Run(capsys, "export", *model, *options, "-o", target)
    assert (exported.code, "warning" in exported.err) == (0, False), exported.err
    metadata = read_metadata(target)
    assert metadata.preprocess == preprocess
    assert metadata.class_names == ["cat", "dog", "bird"]


def test_export_warns_where_no_preparation_is_known(
    capsys: pytest.CaptureFixture[str], own: Path, tmp_path: Path
) -> None:
    target = tmp_path / "own.ts"
    run = Run(capsys, "export", "--model", "./my_model.py:make", "--size", "32x32", "-o", target)
    assert run.code == 0, run.err
    assert "warning: " in run.err
    assert "will take prepared images, and no photos: nothing says how a photo becomes the input" in run.err
    assert "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225" in run.err
    assert read_metadata(target).preprocess is None


def test_the_preparation_of_known_weights() -> None:
    resnet = preprocess_of("torchvision:resnet18")
    assert (resnet.size, resnet.resize, resnet.mean) == ((224, 224), 256, (0.485, 0.456, 0.406))
    assert preprocess_of("timm:tf_efficientnet_lite0").interpolation == "bicubic"
    for name, message in (
        ("resnet18", "expected torchvision:NAME or timm:NAME"),
        ("torchvision:resnet_18", "no 'resnet_18'. Did you mean 'resnet18'"),
        ("timm:nothing_like_it_at_all", "timm has no preparation"),
        ("torchvision:lraspp_mobilenet_v3_large", "does not say how a photo becomes an image of a fixed size"),
    ):
        with pytest.raises(ValueError, match=message):
            preprocess_of(name)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("./my_model.py:make", (), "not known how a photo becomes the input of this TinyResNet. Say it as in the"),
        ("./my_model.py:make", ("--size", "32x32"), "not known how a photo becomes the input"),
        ("./my_model.py:make", ("--mean", "0.5", "--std", "0.5"), "--size is missing"),
        ("./my_model.py:make", ("--size", "32x32", "--mean", "0.5"), "--std is missing"),
        ("./my_model.py:make", ("--size", "32x32", "--mean", "1,2", "--std", "1"), "'1,2' is not one number or three"),
        ("./my_model.py:make", ("--preprocess", "resnet18"), "expected torchvision:NAME or timm:NAME"),
        ("./my_model.py:make", (*SAID, "--class-names", "none.txt"), "class names none.txt cannot be read"),
        (
            "./my_model.py:make",
            (*SAID, "--class-names", "two.txt"),
            "There are 2 class names; the network has 3 class(es)",
        ),
        ("./my_model.py:broken", (), "broken() raised RuntimeError: no weights here. Expected a function"),
        ("./my_model.py:stopped", (), "stopped() raised SystemExit: 3. Expected a function"),
        ("./my_model.py:state", (), "returned OrderedDict; expected an nn.Module"),
        ("./my_model.py:net", (), "net of ./my_model.py is a network, not a function"),
        (
            "./my_model.py:mak",
            (),
            "Did you mean 'make'? Its functions are: make, broken, stopped, state.",
        ),
        ("./my_modl.py:make", (), "There is no file my_modl.py. Did you mean 'my_model.py'?"),
        ("./unreadable.py:make", (), "./unreadable.py raised SyntaxError while it was read"),
        ("./missing.py:make", (), "No module named 'a_package_that_nobody_has' (line 1 of missing.py)"),
        ("own.my_model:make", (), "needs the module own.my_model, which cannot be imported"),
        ("my_model.py", (), "expected torchvision:NAME"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    capsys: pytest.CaptureFixture[str],
    own: Path,
    photos: list[Path],
    tmp_path: Path,
    model: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    (own / "two.txt").write_text("cat\ndog\n")
    run = Run(capsys, "explain", photos[0], "--model", model, *options, "--out", tmp_path / "out")
    assert (run.code, run.out) == (2, "")
    assert message in run.err
    assert run.err.count("\n") == 1
    assert list(tmp_path.glob("out/*")) == []


def test_files_of_class_names(tmp_path: Path) -> None:
    from explainable_model.cli.preparation import read_class_names

    path = tmp_path / "names.json"
    for content in (["cat", "dog"], {"0": "cat", "1": "dog"}, {"1": "dog", "0": "cat"}):
        path.write_text(json.dumps(content))
        assert read_class_names(path) == ("cat", "dog")
    text = tmp_path / "names.txt"
    text.write_bytes("\ufeffKatze\r\n猫\r\n".encode())
    assert read_class_names(text) == ("Katze", "猫")
    wrong = [b"", b"cat\n\ndog\n", b"\xff\xfe\x00"]
    for content in wrong:
        text.write_bytes(content)
        with pytest.raises(InputError, match=r"no name in line|holds no class names"):
            read_class_names(text)
    for text_of_json in ('{"0": ["n01440764", "tench"]}', '{"1": "dog"}', "7", "[", '"cat"', "[1]"):
        path.write_text(text_of_json)
        with pytest.raises(InputError, match=r"holds no class names|expected each from 0"):
            read_class_names(path)


def test_numbers_of_the_preparation() -> None:
    from explainable_model.cli.preparation import parse_numbers

    assert parse_numbers("0.5") == (0.5,)
    assert parse_numbers("[0.5, 0.4 0.3]") == (0.5, 0.4, 0.3)
    assert np.isclose(parse_numbers("0.485,0.456,0.406"), (0.485, 0.456, 0.406)).all()
