"""ExecuTorch programs against the eager network. CI installs ExecuTorch for these tests."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel, Preprocess, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import ArtifactError, InputError
from tests.support.nets import SmallNet, TinyViT, images, seeded

pytest.importorskip("executorch")
pytestmark = pytest.mark.filterwarnings("ignore")  # of torchao and of ExecuTorch's own passes
SIZE = (3, 16, 16)
CLASS_NAMES = ['a "quoted" name', "<&>", "Äpfel", "4", "5"]


@pytest.fixture(scope="module")
def explainable() -> ExplainableModel:
    return ExplainableModel(seeded(SmallNet()), "stem")


@pytest.fixture(scope="module")
def artifact(explainable: ExplainableModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("executorch") / "net.pte"
    preprocess = Preprocess(size=(16, 16))
    export(explainable, path, images(2, SIZE), preprocess=preprocess, class_names=CLASS_NAMES)
    assert [p.name for p in path.parent.iterdir()] == ["net.pte"]
    return path


def assert_equals_eager(path: Path, explainable: ExplainableModel, batch: int, size: tuple[int, ...]) -> None:
    session = load(path, threads=1, trusted=True)
    for seed in range(3):
        image, asked = images(batch, size, seed=seed), torch.arange(batch) % 3 - 1
        for class_idx in (None, asked):
            want, got = explainable(image, class_idx), session(image, class_idx)
            assert np.array_equal(got.class_idx, want.class_idx)
            assert got.class_idx.dtype == np.int64
            assert np.abs(got.logits - want.logits.numpy()).max() < 1e-4 * max(1.0, float(want.logits.abs().max()))
            assert np.abs(got.cam - want.cam.numpy()).max() < TOLERANCES["float32"].cam
            assert want.cam.max() > 0.5, "a map of zeros would prove nothing"


def test_a_middle_layer(artifact: Path, explainable: ExplainableModel) -> None:
    assert_equals_eager(artifact, explainable, 2, SIZE)


def test_a_transformer(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyViT()), "blocks.0.norm1")
    assert_equals_eager(export(explainable, tmp_path / "net.pte", images(1)), explainable, 1, (3, 32, 32))


def test_products_of_the_gradient_run_on_xnnpack(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16), nn.ReLU(),
        nn.Linear(16, 5),
    )  # fmt: skip
    explainable = ExplainableModel(seeded(network), "0")
    lowered = lower(explainable, images(1, SIZE), dynamic_batch=False)
    path = export(lowered, tmp_path / "net.pte")
    assert b"aten::" in path.read_bytes()  # what is left to the loops
    assert b"aten::mm" not in path.read_bytes()
    products = [node for node in lowered.exported_program.graph.nodes if "matmul" in node.name]
    assert any("4" in node.meta["nn_module_stack"].popitem()[1][0] for node in products), "the lowered graph stays"
    assert_equals_eager(path, explainable, 1, SIZE)


def test_slopes_of_activations_run_on_xnnpack(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.Hardswish(), nn.Conv2d(8, 8, 3), nn.Hardtanh(-0.3, 0.7),
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip
    explainable = ExplainableModel(seeded(network), "0")
    path = export(explainable, tmp_path / "net.pte", images(1, SIZE))
    for comparison in (b"aten::gt", b"aten::lt", b"aten::bitwise_and"):
        assert comparison not in path.read_bytes()
    assert_equals_eager(path, explainable, 1, SIZE)


def test_slopes_are_exact_beside_the_bounds(tmp_path: Path) -> None:
    """What an activation just cuts off, or just does not."""
    six = np.float32(6)
    values = [-1.0, 0.0, 1e-30, 1.0, np.nextafter(six, 0), 6.0, np.nextafter(six, 7), 7.0]
    image = torch.tensor(values, dtype=torch.float32).repeat(8, 1).expand(1, 3, 8, 8).contiguous()
    stem = nn.Conv2d(3, 3, 1, bias=False)
    network = seeded(nn.Sequential(stem, nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)))
    with torch.no_grad():
        stem.weight.copy_(torch.eye(3).reshape(3, 3, 1, 1))
        network[-1].weight.fill_(1.0)
    explainable = ExplainableModel(network, "0", "elementwise")
    want = explainable(image).cam
    assert (want[0, 0] > 0).tolist() == [False, False, True, True, True, False, False, False]
    session = load(export(explainable, tmp_path / "net.pte", image), trusted=True)
    assert np.abs(session(image).cam - want.numpy()).max() < 1e-6


def test_answers_stay_when_another_comes(artifact: Path, explainable: ExplainableModel) -> None:
    session, batches = load(artifact, threads=1, trusted=True), [images(2, SIZE, seed=n) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(session, batches))
    for image, got in zip(batches, found, strict=True):
        assert np.abs(got.cam - explainable(image).cam.numpy()).max() < TOLERANCES["float32"].cam


def test_metadata_and_inputs(artifact: Path) -> None:
    session = load(artifact, trusted=True)
    assert read_metadata(artifact) == session.metadata
    assert session.metadata.class_names == CLASS_NAMES
    assert (session.metadata.format, session.metadata.image_shape) == ("executorch", [2, 3, 16, 16])
    assert "executorch" in session.metadata.versions
    with pytest.raises(InputError, match=r"shape \(1, 3, 16, 16\); net\.pte expects \(2, 3, 16, 16\)"):
        session(images(1, SIZE))


def test_files_that_are_damaged_or_foreign(artifact: Path, tmp_path: Path) -> None:
    from executorch.exir import to_edge_transform_and_lower

    path, whole = tmp_path / "net.pte", artifact.read_bytes()
    for function in (load, read_metadata):
        for content in (b"", b"this is no program", whole[:100], whole[: len(whole) // 2]):
            path.write_bytes(content)
            with pytest.raises(ArtifactError, match=r"net\.pte is damaged or not an ExecuTorch program"):
                function(path)
        foreign = to_edge_transform_and_lower(torch.export.export(nn.ReLU(), (torch.rand(2),)))
        path.write_bytes(foreign.to_executorch().buffer)
        with pytest.raises(
            ArtifactError, match="was not exported by explainable_model|is damaged or not an ExecuTorch program"
        ):
            function(path)


def test_open_sizes_are_refused(explainable: ExplainableModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"plans its memory for one image size.*net\.pte"):
        export(explainable, tmp_path / "net.pte", images(1, SIZE), dynamic_size=True)
    with pytest.raises(InputError, match=r"for any batch size; lower it with dynamic_batch=False"):
        export(lower(explainable, images(1, SIZE)), tmp_path / "net.pte")
    assert list(tmp_path.iterdir()) == []
