"""ExplainableModel against an independent reference, and under every condition it promises to work in."""

import copy
import threading

import pytest
import torch
from torch import nn

from explainable_model import ExplainableModel
from tests.support.nets import Case, TinyResNet, TinyViT, images, seeded
from tests.support.reference import finished, gradcam
from tests.support.steady import steadiest


def prefix_of(network: nn.Module) -> int | None:
    return 1 if isinstance(network, TinyViT) else None


@pytest.mark.parametrize("where", ["last", "early"])
def test_equals_the_reference(case: Case, network: nn.Module, where: str) -> None:
    layer, network = getattr(case, where), network.double()
    image = images(3, case.size).double()
    class_idx, signed = gradcam(network, layer, image, prefix_tokens=prefix_of(network))
    raw = ExplainableModel(network, layer, normalize=False, upsample=False)(image)
    assert torch.equal(raw.class_idx, class_idx)
    assert (raw.cam - signed.clamp(min=0)).abs().max() <= 1e-10 * signed.abs().max()
    assert (raw.cam > 0).any(), "a map of zeros would prove nothing"
    full = ExplainableModel(network, layer)(image)
    assert full.cam.shape == (3, *case.size[1:])
    assert (full.cam - finished(signed, case.size[1:])).abs().max() <= 1e-9


@pytest.mark.parametrize("where", ["last", "early"])
def test_float32_is_float64_but_for_rounding(case: Case, network: nn.Module, where: str) -> None:
    layer = getattr(case, where)
    exact = ExplainableModel(copy.deepcopy(network).double(), layer)
    image, classes = steadiest(exact, images(8, case.size), torch.arange(8) % 3, 3)
    single, double = ExplainableModel(network, layer)(image, classes), exact(image.double(), classes)
    assert single.cam.dtype == torch.float32
    assert (single.cam - double.cam).abs().max() <= 2e-5
    assert (single.logits - double.logits).abs().max() <= 1e-5 * double.logits.abs().max()


def test_hand_computed_two_by_two() -> None:
    # One channel copied, one doubled; logits are weighted means: everything can be checked by eye.
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1))
        network[3].weight.copy_(torch.tensor([[4.0, 0.0], [8.0, -2.0]]))
        network[3].bias.zero_()
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    explainable = ExplainableModel(network.eval(), "0", normalize=False)
    logits, class_idx, cam = explainable(image)
    # Channel means 2.5 and 5: logits 10 and 20 - 10 = 10 -> class 0 wins the tie. Gradients are 4/4 and 0.
    assert logits.tolist() == [[10.0, 10.0]]
    assert class_idx.tolist() == [0]
    assert cam.tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    # Class 1: gradients 8/4 = 2 and -2/4 = -0.5: 2 * A - 0.5 * 2 A = A.
    _, _, other = explainable(image, torch.tensor([1]))
    assert other.tolist() == [[[1.0, 2.0], [3.0, 4.0]]]
    assert ExplainableModel(network, "0")(image).cam.flatten().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_batch_of_two_equals_two_batches_of_one(case: Case, network: nn.Module) -> None:
    explainable = ExplainableModel(network.double(), case.last)
    image = images(2, case.size).double()
    both = explainable(image)
    for n in range(2):
        one = explainable(image[n : n + 1])
        assert torch.allclose(both.cam[n], one.cam[0], atol=1e-10)
        assert torch.allclose(both.logits[n], one.logits[0], atol=1e-10)


def test_another_class_gives_another_map(case: Case, network: nn.Module) -> None:
    explainable = ExplainableModel(network.double(), case.last, normalize=False)
    image = images(2, case.size).double()
    first = explainable(image, torch.tensor([0, 0]))
    second = explainable(image, torch.tensor([1, 0]))
    assert first.class_idx.tolist() == [0, 0]
    assert second.class_idx.tolist() == [1, 0]
    assert not torch.allclose(first.cam[0], second.cam[0])
    assert torch.allclose(first.cam[1], second.cam[1], atol=1e-12)
    _, signed = gradcam(network, case.last, image, torch.tensor([1, 0]), prefix_of(network))
    raw = ExplainableModel(network, case.last, normalize=False, upsample=False)(image, torch.tensor([1, 0]))
    assert torch.allclose(raw.cam, signed.clamp(min=0), atol=1e-10)


def test_minus_one_is_the_predicted_class() -> None:
    explainable = ExplainableModel(seeded(TinyResNet()), "layer2")
    image = images(3)
    predicted = explainable(image)
    mixed = explainable(image, torch.tensor([-1, 2, -1]))
    assert mixed.class_idx.tolist() == [int(predicted.class_idx[0]), 2, int(predicted.class_idx[2])]
    assert torch.equal(mixed.cam[0], predicted.cam[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("frozen", [False, True])
def test_works_in_every_gradient_mode(mode: type, frozen: bool) -> None:
    network = seeded(TinyResNet()).requires_grad_(not frozen)
    explainable = ExplainableModel(network, "layer1")
    expected = explainable(images(2))
    with mode():
        got = explainable(images(2))  # under inference_mode the image is an inference tensor too
        assert torch.is_grad_enabled() == (mode is torch.enable_grad), "the mode is left as found"
    assert torch.equal(got.cam, expected.cam)
    assert not got.cam.requires_grad
    assert not got.logits.requires_grad


def test_leaves_the_network_as_found() -> None:
    network = seeded(TinyResNet())
    network.stem.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    needs = [p.requires_grad for p in network.parameters()]
    ExplainableModel(network, "layer1")(images(2))
    assert [p.requires_grad for p in network.parameters()] == needs
    assert not any(module.training for module in network.modules())
    assert torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
    assert all(p.grad is None for name, p in network.named_parameters() if name != "fc.weight")
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


def test_frees_what_it_captured() -> None:
    import gc
    import weakref

    kept: list[weakref.ref[torch.Tensor]] = []
    network = seeded(TinyResNet())
    network.layer1.register_forward_hook(lambda module, inputs, output: kept.append(weakref.ref(output)))
    result = ExplainableModel(network, "layer1")(images(1))
    gc.collect()
    assert [ref() for ref in kept] == [None]
    assert result.cam.shape == (1, 32, 32)


@pytest.mark.parametrize("layer", ["layer1", None])
def test_threads_on_one_module_do_not_mix(layer: str | None) -> None:
    network = seeded(TinyResNet())
    batches = [images(1 + n % 3, seed=n) for n in range(48)]
    expected = [ExplainableModel(network, layer or "layer2")(batch) for batch in batches]
    explainable = ExplainableModel(network, layer)  # without a name, eight threads look for the layer at once
    results: dict[int, torch.Tensor] = {}
    barrier = threading.Barrier(8)

    def work(start: int) -> None:
        barrier.wait()
        for n in range(start, len(batches), 8):
            results[n] = explainable(batches[n]).cam

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(48))
    assert all(torch.equal(results[n], expected[n].cam) for n in results)
    assert not explainable.model.layer1._forward_hooks
