"""Half precision, autocast, channels_last, and graphs that name no device."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.export.passes import move_to_device_pass

from explainable_model import FORMATS, ExplainableModel, export, load, lower, read_metadata
from explainable_model.artifact.tolerances import RUNTIME_TOLERANCES, TOLERANCES, tolerance_of
from explainable_model.errors import ArtifactError
from explainable_model.exporters.torchscript import quiet_torchscript, script
from explainable_model.lowering.capture.export import quiet_export
from tests.support.nets import QUICK_FORMATS, TinyMobileNet, TinyResNet, TinySegmenter, TinyViT, images, seeded


@pytest.mark.parametrize(("kind", "layer"), [(TinyResNet, "layer1"), (TinyViT, "blocks.0.norm1")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind: type[nn.Module], layer: str, dtype: torch.dtype, tmp_path: Path) -> None:
    exact = ExplainableModel(seeded(kind()), layer)(images(3, seed=4))
    network, image = seeded(kind()).to(dtype), images(3, seed=4).to(dtype)
    explainable = ExplainableModel(network, layer)
    want = explainable(image, exact.class_idx)
    assert want.cam.dtype == want.logits.dtype == dtype
    name = str(dtype).removeprefix("torch.")
    assert (want.cam.float() - exact.cam).abs().max() < TOLERANCES[name].cam
    lowered = lower(explainable, images(1).to(dtype))
    assert lowered.precision == name
    assert (lowered(image, exact.class_idx).cam.float() - want.cam.float()).abs().max() < TOLERANCES[name].cam
    for fmt in QUICK_FORMATS:
        path = tmp_path / f"net{fmt.suffixes[0]}"
        if fmt.name == "onnx" and dtype == torch.bfloat16:
            with pytest.raises(ArtifactError, match=r"ONNX Runtime has no kernel for a part of net.onnx: .*bfloat16"):
                export(lowered, path)
            continue
        session = load(export(lowered, path))
        assert session.metadata.dtype == name
        got = session(image, exact.class_idx)
        assert np.abs(got.cam.astype(np.float32) - want.cam.float().numpy()).max() < tolerance_of(name, fmt.name).cam
        assert got.cam.dtype == (np.float32 if dtype == torch.bfloat16 else np.float16)
        assert np.array_equal(session(image.float().numpy().astype(got.cam.dtype), exact.class_idx).cam, got.cam)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".pt2", ".ts"] if dtype == torch.bfloat16 else True


def test_the_tolerances_are_one_table() -> None:
    assert tolerance_of("float32", "onnx") == tolerance_of("float32") == TOLERANCES["float32"]
    assert tolerance_of("float16", "onnx") == RUNTIME_TOLERANCES["onnx", "float16"]
    for (runtime, dtype), tolerance in RUNTIME_TOLERANCES.items():
        assert runtime in FORMATS
        assert tolerance != TOLERANCES[dtype]


class Mixed(nn.Module):
    """Autocast of the network's own: on, off inside, and off."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.first(image))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            activations = self.second(activations)
            with torch.autocast("cpu", enabled=False):
                activations = torch.tanh(activations.float())
        return self.fc(activations.mean((2, 3)))


def test_autocast_inside_the_network(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Mixed()), "first")
    lowered = lower(explainable, images(1))
    assert lowered.precision == "bfloat16"
    image = images(3, seed=4)
    want = explainable(image)
    kinds = [node.meta["val"].dtype for node in lowered.graph_module.graph.nodes if "conv2d" in str(node.target)]
    assert torch.bfloat16 in kinds
    for suffix in (".ts", ".pt2"):
        got = load(export(lowered, tmp_path / f"net{suffix}"))(image)
        # Processors without instructions for bfloat16 round inside the convolutions, each kernel in its own place.
        assert np.abs(got.cam - want.cam.numpy()).max() < 2e-3, "the same roundings between layers"
    with pytest.raises(ArtifactError, match=r"no kernel for a part of net.onnx.*float32: export network.float\(\)"):
        export(lowered, tmp_path / "net.onnx")


def test_autocast_around_the_call(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer1")
    image, plain = images(3, seed=4), lower(explainable, images(1))
    exact = explainable(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        want = explainable(image, exact.class_idx)
        lowered = lower(explainable, images(1))
        inside = lowered(image, exact.class_idx)
        session = load(export(explainable, tmp_path / "net.ts", images(1)))
        assert torch.equal(plain(image).cam, exact.cam) or (plain(image).cam - exact.cam).abs().max() < 1e-4
    assert (lowered.precision, plain.precision) == ("bfloat16", "float32")
    outside = lowered(image, exact.class_idx)
    assert torch.equal(inside.cam, outside.cam), "what it was lowered under is in the graph, what it runs under is not"
    assert (outside.cam.float() - want.cam.float()).abs().max() < TOLERANCES["bfloat16"].cam
    assert np.abs(session(image, exact.class_idx).cam - outside.cam.float().numpy()).max() < TOLERANCES["bfloat16"].cam


@pytest.mark.parametrize(("kind", "layer"), [(TinyResNet, "layer1"), (TinyMobileNet, "stem")])
def test_channels_last(kind: type[nn.Module], layer: str, tmp_path: Path) -> None:
    plain = ExplainableModel(seeded(kind()), layer)
    network = seeded(kind()).to(memory_format=torch.channels_last)
    image = images(3, seed=4)
    want = plain(image)
    lowered = lower(ExplainableModel(network, layer), images(1).to(memory_format=torch.channels_last))
    for fmt in QUICK_FORMATS:
        session = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))
        for given in (image, image.to(memory_format=torch.channels_last)):
            assert np.abs(session(given).cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam


# Devices


class Coordinates(nn.Module):
    """Makes tensors of its own, of fixed and of open size, on the device that it finds or on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(6, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.tanh(self.conv(image))
        batch, _, height, width = activations.shape
        rows = torch.arange(1, height + 1, device=image.device, dtype=image.dtype) / height
        columns = (torch.arange(width).to(image) + torch.arange(0.5, width).to(image)) / width
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
        frame = torch.zeros(height, width) + torch.ones(height, 1) + torch.full((1, width), 0.5)
        gathered = torch.cat([activations * frame, places * activations[:, :2]], 1)
        return self.fc((gathered * torch.eye(6).sum(0).reshape(1, 6, 1, 1)).mean((2, 3)))


def devices_of(graph: fx.Graph) -> list[str]:
    return [
        node.format_node() or node.name
        for node in graph.nodes
        if any(isinstance(value, torch.device) for value in (*node.args, *node.kwargs.values()))
    ]


DEVICE_CASES = [
    (TinyResNet, "stem", False), (TinyViT, "blocks.0.norm1", False), (TinySegmenter, "backbone.1", False),
    (Coordinates, "conv", False), (Coordinates, "conv", True), (TinySegmenter, "backbone.1", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "layer", "dynamic_size"), DEVICE_CASES)
def test_no_device_in_an_artifact(kind: type[nn.Module], layer: str, dynamic_size: bool) -> None:
    explainable = ExplainableModel(seeded(kind()), layer)
    lowered = lower(explainable, images(1, (3, 32, 48)), dynamic_size=dynamic_size)
    image = images(2, (3, 40, 24) if dynamic_size else (3, 32, 48), seed=2)
    assert torch.allclose(lowered(image).cam, explainable(image).cam, atol=1e-4)
    assert devices_of(lowered.graph_module.graph) == []
    assert devices_of(lowered.exported_program.graph) == []
    scripted = script(lowered)
    assert "Device = prim::Constant" not in str(scripted.inlined_graph)
    # On another device, where every tensor must be: there is no GPU here, and mixing meta with CPU fails alike.
    with quiet_torchscript():
        moved = scripted.to("meta")
    logits, class_idx, cam = moved(image.to("meta"))
    assert {logits.device.type, class_idx.device.type, cam.device.type} == {"meta"}
    assert cam.shape == image[:, 0].shape
    with quiet_export():
        program = torch.export.load(saved(lowered.exported_program))
        elsewhere = move_to_device_pass(program, "meta").module()
        assert elsewhere(image.to("meta"), class_idx)[2].shape == cam.shape


def saved(program: torch.export.ExportedProgram) -> io.BytesIO:
    archive = io.BytesIO()
    torch.export.save(program, archive)
    archive.seek(0)
    return archive


def test_every_format_of_a_network_with_tensors_of_its_own(tmp_path: Path) -> None:
    explainable = ExplainableModel(seeded(Coordinates()), "conv")
    image = images(3, (3, 40, 24), seed=2)
    for fmt in QUICK_FORMATS:
        path = export(explainable, tmp_path / f"net{fmt.suffixes[0]}", images(1, (3, 32, 48)), dynamic_size=True)
        assert read_metadata(path).sizes is not None
        assert np.abs(load(path)(image).cam - explainable(image).cam.numpy()).max() <= TOLERANCES["float32"].cam
