"""Other networks, kinds of output, photos of 12 bits, and mistakes in what is asked of the C++ program."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kits import Kit, compute_softmax
from PIL import Image
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, load
from explainable_model.imaging.preprocess import open_photo


class Gray(nn.Module):
    """One channel in, two classes out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).relu().mean((2, 3)))


def test_other_networks(kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    """Explain gray, cropped photos without class names, in double precision where the runtime takes it."""
    dtype = torch.float64 if kit.name == "libtorch" else torch.float32
    preprocess = Preprocess((24, 32), (0.4,), (0.3,), resize=30)
    path = tmp_path / f"gray{kit.suffix}"
    example = torch.rand(1, 1, 24, 32, dtype=dtype)
    export(ExplainableModel(Gray().to(dtype).eval(), "features"), path, example, preprocess=preprocess)
    found = kit.explain(photos[0], path, "--class", 1, "--npy", tmp_path / "cam.npy")
    image = preprocess(open_photo(photos[0])).astype(str(dtype).removeprefix("torch."))
    logits, _, cam = load(path, threads=1)(image, np.array([1]))
    assert (found["class_idx"], found["class_name"]) == (1, None)
    assert found["probability"] == pytest.approx(compute_softmax(logits)[1], abs=1e-6)
    assert np.abs(np.load(tmp_path / "cam.npy") - cam[0]).max() < 1e-6
    assert found["box"] == pytest.approx(preprocess.box(451, 300))

    any_size = ExplainableModel(Gray().eval(), "features")
    export(any_size, path, example.float(), preprocess=Preprocess((20, 28), (0.4,), (0.3,)), dynamic_size=True)
    kit.explain(photos[0], path, "--npy", tmp_path / "cam.npy")
    assert np.load(tmp_path / "cam.npy").shape == (20, 28)

    both = ExplainableModel(Gray().eval(), "features", top_k=2)
    export(both, path, example.float(), preprocess=preprocess, class_names=["near", "far"])
    found = kit.explain(photos[0], path, "--npy", tmp_path / "cam.npy")
    _, explained, cam = load(path, threads=1)(preprocess(open_photo(photos[0])))
    assert [each["class_idx"] for each in found["explained"]] == list(explained[0])
    assert {each["class_name"] for each in found["explained"]} == {"near", "far"}
    assert found["class_idx"] == explained[0, 0]
    assert np.abs(np.load(tmp_path / "cam.npy") - cam[0]).max() < 1e-6
    assert np.abs(cam[0, 0] - cam[0, 1]).max() > 0.1

    export(ExplainableModel(Gray().eval(), "features"), path, example.float())
    assert "does not say how a photo becomes its input" in kit.refuses(photos[0], path)


def test_a_photo_of_twelve_bits(quick_kit: Kit, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, photo = tmp_path / f"gray{quick_kit.suffix}", tmp_path / "deep.png"
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(photo)
    for window in (None, (0, 4095)):
        preprocess = Preprocess((24, 24), (0.4,), (0.3,), window=window)
        export(ExplainableModel(Gray().eval(), "features"), path, torch.rand(1, 1, 24, 24), preprocess=preprocess)
        if window is None:
            assert "nearly black" in quick_kit.run("explain", photo, path).stderr
        else:
            assert "reads the full range alone" in quick_kit.run("explain", photo, path).stderr


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "binary", "binary_logits", "scores"])
def test_probabilities_follow_the_kind_of_output(kind: str, quick_kit: Kit, photos: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(0)
    endings = {"softmax": nn.Softmax(1), "sigmoid": nn.Sigmoid(), "binary": nn.Sigmoid()}
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 1 if "binary" in kind else 3), endings.get(kind, nn.Identity()),
    ).eval()  # fmt: skip
    nn.init.constant_(network[4].bias, -2)  # every class is absent
    path = tmp_path / f"kind{quick_kit.suffix}"
    names = ["ill"] if "binary" in kind else None
    image, preprocess = torch.zeros(1, 3, 40, 40), Preprocess((40, 40))
    option = kind if kind in ("scores", "binary_logits") else None  # which only the user can know
    export(ExplainableModel(network, "1"), path, image, preprocess=preprocess, class_names=names, output_kind=option)
    found = quick_kit.explain(photos[0], path)
    output = network(torch.from_numpy(preprocess(open_photo(photos[0]))))[0].detach().double().numpy()
    odds = {"binary_logits": 1 / (1 + np.exp(-output)), "scores": None}.get(kind, output)
    best = int(output.argmax())
    assert (found["output_kind"], found["class_idx"]) == (kind, best)
    assert found["score"] == pytest.approx(output[best], rel=1e-4)
    assert found["probability"] == (None if odds is None else pytest.approx(odds[best], rel=1e-4))
    assert [entry["class_idx"] for entry in found["top"]] == np.argsort(-output).tolist()
    words = quick_kit.run("explain", photos[0], path).stdout
    expected = f"score {output[best]:.2f}"[:9] if odds is None else f"{round(float(odds[best]) * 100, 1):g}%"
    assert f"{'no ill' if 'binary' in kind else f'class {best}'}, {expected}" in words


def test_mistakes_in_what_is_asked(kit: Kit, lite0: Path, photos: list[Path], tmp_path: Path) -> None:
    assert "The class is 1000; expected 0 to 999." in kit.refuses(photos[0], lite0, "--class", 1000)
    assert "Nearest: egyptian cat (285)" in kit.refuses(photos[0], lite0, "--class", "egyptian cats")
    assert "There is no file" in kit.refuses(tmp_path / "none.jpg", lite0, code=1)
    assert "--threads is 0" in kit.refuses(photos[0], lite0, "--threads", 0)
    assert "There is no option --color" in kit.refuses(photos[0], lite0, "--color")
    assert "--npy needs a value" in kit.refuses(photos[0], lite0, "--npy")
    assert "Got 1 file(s)" in kit.refuses(photos[0])
    assert "cannot be written" in kit.run("explain", photos[0], lite0, "-o", tmp_path / "none" / "a.png").stderr
    assert kit.run("explain", "--help").stdout.startswith("usage: explain PHOTO... ARTIFACT")
