"""Quantized networks: trained for it, with integer weights, and converted."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explainable_model import ExplainableModel, export, load, lower
from explainable_model.artifact.tolerances import TOLERANCES
from explainable_model.errors import LayerError, ModelError
from tests.support.nets import QUICK_FORMATS, images, seeded

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.ao.quantization, to be replaced by torchao
    import torch.ao.quantization as quantization
    from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = quantization.QuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 3)
        self.dequant = quantization.DeQuantStub()

    def forward(self, image: Tensor) -> Tensor:
        activations = self.conv(self.stem(self.quant(image)))
        return self.dequant(self.fc(activations.mean((2, 3))))


def plain_quantizer(observer: type) -> object:
    """The one of several operators, instead of the fused one."""
    per_channel = observer is MovingAveragePerChannelMinMaxObserver
    scheme = torch.per_channel_symmetric if per_channel else torch.per_tensor_affine
    dtype, low, high = (torch.qint8, -128, 127) if per_channel else (torch.quint8, 0, 255)
    return FakeQuantize.with_args(observer=observer, quant_min=low, quant_max=high, dtype=dtype, qscheme=scheme)


def trained(fused: bool) -> nn.Module:
    """Prepared for training, with scales from a few batches."""
    network = seeded(Net()).train()
    plain = quantization.QConfig(
        activation=plain_quantizer(MovingAverageMinMaxObserver),
        weight=plain_quantizer(MovingAveragePerChannelMinMaxObserver),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Please use quant_min and quant_max", UserWarning)
        network.qconfig = quantization.get_default_qat_qconfig("x86") if fused else plain
        quantization.fuse_modules_qat(network, ["stem.0", "stem.1", "stem.2"], inplace=True)
        quantization.prepare_qat(network, inplace=True)
    with torch.no_grad():
        for seed in range(3):
            network(images(4, seed=seed))
    return network.eval()


@pytest.mark.parametrize("fused", [True, False])
def test_quantization_aware_training(fused: bool, tmp_path: Path) -> None:
    network = trained(fused).apply(quantization.disable_observer)
    explainable, image = ExplainableModel(network, "stem"), images(3, seed=4)
    want, classes = explainable(image), torch.tensor([0, 1, 2])
    quantized = want.logits.clone()
    lowered = lower(explainable, images(1))
    assert lowered.dynamic_batch
    names = {str(node.target) for node in lowered.graph_module.graph.nodes}
    assert not [name for name in names if "fake_quant" in name], "plain operators, that every runtime has"
    assert torch.equal(network(image), quantized), "the network is left as found"
    network.apply(quantization.disable_fake_quant)
    assert (network(image) - quantized).abs().max() > 1e-3, "quantization makes a difference"
    network.apply(quantization.enable_fake_quant)
    want = explainable(image, classes)
    for fmt in QUICK_FORMATS:
        got = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))(image, classes)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam
        assert np.abs(got.logits - want.logits.numpy()).max() <= 1e-4 * float(want.logits.abs().max())


def test_fake_quantization_that_is_off() -> None:
    network = trained(False).apply(quantization.disable_observer).apply(quantization.disable_fake_quant)
    explainable = ExplainableModel(network, "stem")
    lowered = lower(explainable, images(1))
    assert torch.allclose(lowered(images(3, seed=4)).cam, explainable(images(3, seed=4)).cam, atol=1e-5)
    assert not [node for node in lowered.graph_module.graph.nodes if "round" in str(node.target)]


def test_an_observer_that_is_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'quant.activation_post_process' still observes.*disable_observer"):
        export(ExplainableModel(trained(True), "stem"), tmp_path / "net.ts", images(1))
    assert list(tmp_path.iterdir()) == []


class IntegerWeight(nn.Module):
    """int8 weights with a scale per output, made floating point at each call."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        scale = layer.weight.detach().flatten(1).abs().amax(1).reshape(-1, *[1] * (layer.weight.ndim - 1)) / 127
        self.register_buffer("weight", (layer.weight.detach() / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def forward(self, activations: Tensor) -> Tensor:
        weight = self.weight.to(activations.dtype) * self.scale
        if weight.ndim == 2:
            return functional.linear(activations, weight, self.bias)
        return functional.conv2d(activations, weight, self.bias, padding=1)


def test_weight_only(tmp_path: Path) -> None:
    network = seeded(Net())
    network.conv, network.fc = IntegerWeight(network.conv), IntegerWeight(network.fc)
    explainable, image = ExplainableModel(network, "stem"), images(3, seed=4)
    want = explainable(image)
    lowered = lower(explainable, images(1))
    for fmt in QUICK_FORMATS:
        got = load(export(lowered, tmp_path / f"net{fmt.suffixes[0]}"))(image)
        assert np.abs(got.cam - want.cam.numpy()).max() <= TOLERANCES["float32"].cam


@pytest.mark.filterwarnings("ignore:quantized..linear_dynamic:UserWarning")  # says that it has no gradient
def test_converted_networks_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = quantization.convert(trained(True))
        dynamic = quantization.quantize_dynamic(seeded(Net()), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(LayerError, match="No layer of .* computes in integers.*before its conversion"):
        ExplainableModel(converted)(images(1))
    with pytest.raises(LayerError, match="did not run, or returned no floating.*'quant' computes in integers"):
        export(ExplainableModel(converted, "conv"), tmp_path / "net.ts", images(1))
    with pytest.raises(ModelError, match="does not depend.*'fc' computes in integers.*before its conversion"):
        export(ExplainableModel(dynamic, "conv"), tmp_path / "net.ts", images(1))
    assert list(tmp_path.iterdir()) == []


class OwnQuantizer(nn.Module):
    """Calls PyTorch's operator itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        activations = torch.fake_quantize_per_tensor_affine(self.conv(image), 0.1, 3, 0, 31)
        return self.fc(torch.tanh(activations).mean((2, 3)))


def test_the_operator_itself(tmp_path: Path) -> None:
    explainable, image = ExplainableModel(seeded(OwnQuantizer()), "conv"), images(3, seed=4)
    lowered = lower(explainable, images(2))  # a StaticBatchWarning would be an error
    assert torch.allclose(lowered(image).cam, explainable(image).cam, atol=1e-5)
    assert load(export(lowered, tmp_path / "net.onnx"))(image).cam == pytest.approx(explainable(image).cam, abs=1e-4)


class FunctionalFakeQuantize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.second, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)

    def forward(self, image: Tensor) -> Tensor:
        values = torch.fake_quantize_per_tensor_affine(self.conv(image).relu(), 0.01, 3, 0, 255)
        zeros = torch.zeros(4, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(
            self.second.weight, torch.full((4,), 0.02), zeros, 0, quant_min=-128, quant_max=127
        )
        values = nn.functional.conv2d(values, weight)
        values = torch.fake_quantize_per_tensor_affine(values, torch.tensor(0.02), zeros[0], -128, 127)
        return self.fc(values.mean((2, 3)))


def test_functional_fake_quantization_takes_any_batch() -> None:
    explainable = ExplainableModel(seeded(FunctionalFakeQuantize()), "conv")
    lowered = lower(explainable, images(2, (3, 12, 12)))  # a StaticBatchWarning would be an error
    image = images(5, (3, 12, 12), seed=3)
    want, got = explainable(image), lowered(image)
    assert lowered.dynamic_batch
    assert torch.allclose(got.logits, want.logits, atol=1e-6)
    assert (want.cam > 0).any()
    assert torch.allclose(got.cam, want.cam, atol=1e-5)
