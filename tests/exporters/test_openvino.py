"""OpenVINO files against the eager network, where they are known to go wrong too; and what is refused."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from explainable_model import ExplainableModel, Preprocess, Session, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import ArtifactError, InputError, MissingRuntimeError
from explainable_model.exporters import FORMATS
from explainable_model.exporters.openvino import _separate_weights_of_square_products
from explainable_model.lowering.imaging import PhotoIO
from tests.support.nets import CASES, SmallNet, images, seeded

SIZE = (3, 16, 16)
CLASS_NAMES = ['a "quoted" name', "<&>", "Äpfel", "4", "5"]


class Square(nn.Module):
    """A strided convolution with as many channels out as in: its gradient has weights of the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 3, 2, 1)
        self.middle = nn.Conv2d(64, 64, 3, 2, 1)
        self.fc = nn.Linear(64, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.middle(self.stem(image).relu()).relu().mean((2, 3)))


class SquareLayer(nn.Module):
    """A linear layer over tokens with as many outputs as inputs, as behind attention; nothing is fused into it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.square = nn.Linear(32, 32)
        self.fc = nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.stem(image).flatten(2).transpose(1, 2)
        mixed = self.square(tokens.reshape(-1, 32)).reshape(tokens.shape)
        return self.fc(mixed.sin().mean(1))


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    return ExplainableModel(seeded(SmallNet()), "stem")


@pytest.fixture(scope="module")
def artifact(explainable: ExplainableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openvino") / "net.xml"
    preprocess = Preprocess(size=(16, 16))
    export(explainable, path, images(1, SIZE), preprocess=preprocess, class_names=CLASS_NAMES)
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.bin", "net.xml"]
    return path


def assert_equals_eager(session: Session, explainable: ExplainableModel, image: Tensor) -> None:
    for class_idx in (None, torch.arange(len(image)) % 3 - 1):
        want, got = explainable(image, class_idx), session(image, class_idx)
        assert np.array_equal(got.class_idx, want.class_idx)
        assert got.class_idx.dtype == np.int64
        assert np.abs(got.logits - want.logits.numpy()).max() < 1e-4 * max(1.0, float(want.logits.abs().max()))
        assert np.abs(got.cam - want.cam.numpy()).max() < TOLERANCES["float32"].cam
        assert want.cam.max() > 0.5, "a map of zeros would prove nothing"


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_an_early_layer_at_every_batch_size(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    explainable = ExplainableModel(seeded(case.network()), case.early)
    session = load(export(explainable, tmp_path / "net.xml", images(1, case.size)), threads=1)
    for batch in (1, 2, 7):
        assert_equals_eager(session, explainable, images(batch, case.size, seed=50 + batch))


def test_a_convolution_and_its_gradient_share_no_weights(tmp_path: Path) -> None:
    """With shared or equal weights, OpenVINO's maps of this network are off by 0.8, without an error."""
    explainable = ExplainableModel(seeded(Square()), "stem")
    lowered = lower(explainable, images(1))
    assert torch.ops.aten.convolution.default in {node.target for node in lowered.graph_module.graph.nodes}
    session = load(export(lowered, tmp_path / "net.xml"), threads=1)
    for batch in (1, 3):
        assert_equals_eager(session, explainable, images(batch, seed=batch))


def test_a_square_layer_and_its_gradient_share_no_weights(tmp_path: Path) -> None:
    """With shared weights, OpenVINO's maps of this network are off by 0.8, without an error."""
    explainable = ExplainableModel(seeded(SquareLayer()), "stem")
    session = load(export(explainable, tmp_path / "net.xml", images(1)), threads=1)
    for batch in (1, 3):
        assert_equals_eager(session, explainable, images(batch, seed=batch))


def test_a_square_layer_behind_a_transpose(tmp_path: Path) -> None:
    """A transformer's projection reads its weights through a transpose; with shared weights, the map is off by 1."""
    network = VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=96, mlp_dim=8, num_classes=5
    )
    nn.init.normal_(network.heads.head.weight)
    explainable = ExplainableModel(seeded(network), "encoder.layers.encoder_layer_0.ln_1")
    session = load(export(explainable, tmp_path / "net.xml", images(1, SIZE)), threads=1)
    assert_equals_eager(session, explainable, images(3, SIZE, seed=4))


class Summed(nn.Module):
    """Products of tokens and a square matrix, written as sums over named axes, in both orders and by heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.square = nn.Conv2d(3, 32, 3, 2, 1), nn.Parameter(torch.randn(32, 32))
        self.heads, self.fc = nn.Parameter(torch.randn(4, 8, 32)), nn.Linear(32, 5)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.stem(image).flatten(2).transpose(1, 2)
        tokens = torch.einsum("ntk,kj->ntj", tokens, self.square).sin()
        tokens = torch.einsum("ntk,jk->ntj", tokens, self.square).sin()
        tokens = torch.einsum("ntk,hdk->nthd", tokens, self.heads).flatten(2)
        return self.fc(tokens.sin().mean(1))


def test_sums_over_named_axes_and_their_gradients_share_no_weights(tmp_path: Path) -> None:
    """OpenVINO makes products of them when it compiles the file; with shared weights, maps correlate by 0.14."""
    torch.manual_seed(0)
    explainable = ExplainableModel(seeded(Summed()), "stem")
    session = load(export(explainable, tmp_path / "net.xml", images(1, SIZE)), threads=1)
    assert_equals_eager(session, explainable, images(3, SIZE, seed=4))


@pytest.mark.parametrize("start", range(5))
def test_products_that_read_one_constant_in_several_orders(start: int, tmp_path: Path) -> None:
    from openvino import Core, Model, save_model
    from openvino import opset13 as operators

    rng = np.random.default_rng(0)
    weights, image = (rng.standard_normal((n, 96)).astype(np.float32) for n in (96, 4))
    x, constant = operators.parameter([-1, 96], np.float32), operators.constant(weights)
    stack = operators.reshape(constant, [1, 96, 96], False)
    turned = operators.transpose(constant, [1, 0])
    factors = [
        (constant, False, weights),
        (constant, True, weights.T),
        (turned, False, weights.T),
        (operators.transpose(stack, [0, 2, 1]), False, weights.T[None]),
        (operators.reshape(operators.transpose(stack, [0, 2, 1]), [96, 96], False), True, weights),
    ]
    factors = factors[start:] + factors[:start]
    products = [operators.matmul(x, factor, False, transpose) for factor, transpose, _ in factors]
    model = Model(products, [x])
    _separate_weights_of_square_products(model)
    save_model(model, tmp_path / "net.xml", compress_to_fp16=False)
    answers = Core().compile_model(tmp_path / "net.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(image)
    for answer, (*_, factor) in zip(answers.values(), factors, strict=True):
        assert np.abs(answer - image @ factor).max() < 1e-3


def test_open_sizes_and_several_classes(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(SmallNet()), "block", top_k=2)
    session = load(export(explainable, tmp_path / "net.xml", images(1, SIZE), dynamic_size=True))
    for batch, size in ((1, (3, 24, 20)), (3, (3, 16, 40))):
        image = images(batch, size, seed=batch)
        want, got = explainable(image), session(image)
        assert got.cam.shape == (batch, 2, *size[1:])
        assert np.abs(got.cam - want.cam.numpy()).max() < TOLERANCES["float32"].cam


def test_threads_share_a_session(artifact: Path, explainable: ExplainableModel) -> None:
    session, batch = load(artifact, threads=1), [images(1, SIZE, seed=n) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(session, batch))
    for image, got in zip(batch, found, strict=True):
        assert np.abs(got.cam - explainable(image).cam.numpy()).max() < TOLERANCES["float32"].cam


def test_metadata_and_inputs(artifact: Path) -> None:
    session = load(artifact)
    assert read_metadata(artifact) == session.metadata
    assert session.metadata.class_names == CLASS_NAMES
    assert (session.metadata.format, session.metadata.image_shape) == ("openvino", [None, 3, 16, 16])
    assert "openvino" in session.metadata.versions
    with pytest.raises(InputError, match=r"expects \(N, 3, 16, 16\)"):
        session(images(1, (3, 8, 16)))
    with pytest.raises(InputError, match="class_idx 5 is out of range"):
        session(images(1, SIZE), np.array([5]))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_photos_are_resized_with_antialiasing(interpolation: str, tmp_path: Path) -> None:
    """OpenVINO reads ONNX's resizing without it; the export of such a graph would be refused."""
    preprocess = Preprocess(SIZE[1:], resize=18, interpolation=interpolation)
    explainable = ExplainableModel(seeded(SmallNet()), "stem")
    path = export(explainable, tmp_path / "net.xml", images(2, SIZE), preprocess=preprocess, pixels="NHWC")
    frame = PhotoIO(preprocess, "NHWC")
    photos = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 97, 80, 3), dtype=np.uint8))
    logits, _, cam = explainable(frame.image(photos))
    answer = load(path)(photos.numpy())
    assert np.abs(answer.logits - logits.detach().numpy()).max() < 1e-3
    assert np.abs(answer.cam - frame.maps(cam, photos).numpy()).max() < 1e-2


def test_files_that_are_damaged_or_foreign(artifact: Path, tmp_path: Path) -> None:
    import openvino

    path, graph, weights = tmp_path / "net.xml", artifact.read_bytes(), artifact.with_suffix(".bin").read_bytes()
    for function in (load, read_metadata):
        for damaged, short in ((b"", weights), (b"no graph", weights), (graph[:3000], weights), (graph, weights[:99])):
            path.write_bytes(damaged)
            path.with_suffix(".bin").write_bytes(short)
            with pytest.raises(ArtifactError, match=r"net\.xml.* (is damaged|cannot be shown to be harmless)"):
                function(path)
        path.with_suffix(".bin").unlink()
        with pytest.raises(ArtifactError, match=r"net\.xml needs net\.bin beside it"):
            function(path)
        number = openvino.opset13.parameter([1], np.float32)
        openvino.save_model(openvino.Model([openvino.opset13.relu(number)], [number]), path)
        with pytest.raises(ArtifactError, match="was not exported by explainable_model"):
            function(path)


def test_what_cannot_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    double = ExplainableModel(seeded(SmallNet()).double(), "block")
    with pytest.raises(ArtifactError, match=r"computes in float32 at most: export network\.float"):
        export(double, tmp_path / "net.xml", images(1, SIZE).double())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'explainable-model\[openvino\]'"):
        export(ExplainableModel(seeded(SmallNet()), "block"), tmp_path / "net.xml", images(1, SIZE))
    assert list(tmp_path.iterdir()) == []
    assert FORMATS["openvino"].suffixes == (".xml",)


def test_loading_does_not_import_torch(artifact: Path) -> None:
    code = f"""
import sys
import numpy as np
from explainable_model import load
assert load({str(artifact)!r})(np.ones((2, 3, 16, 16), np.float32)).cam.shape == (2, 16, 16)
assert not {{"torch", "onnx", "onnxruntime"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
