"""Methods on the captured graph answer for the network as it is now."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from explainable_model import ExplainableModel
from explainable_model.errors import LoweringError, ModelError
from explainable_model.lowering.backward import graph_cache
from tests.support.nets import SmallNet, images, seeded

SIZE = (3, 8, 8)


class Scaled(nn.Module):
    """A network with an attribute that its forward reads, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)
        self.scale = 1.0

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.dropout(self.body(image)).mean((2, 3))) * self.scale


def network() -> Any:
    return seeded(Scaled()).double()


def image() -> Tensor:
    return images(2, SIZE).double()


def replace_head(net: Any) -> None:
    net.fc = seeded(nn.Linear(4, 7), seed=9).double()


def replace_parameter(net: Any) -> None:
    net.fc.weight = nn.Parameter(-net.fc.weight.detach())


def replace_data(net: Any) -> None:
    net.fc.weight.data = -net.fc.weight.data


def write_in_place(net: Any) -> None:
    with torch.no_grad():
        net.fc.weight.neg_()


def load_weights(net: Any) -> None:
    net.load_state_dict(seeded(Scaled(), seed=5).double().state_dict())


def parametrize(net: Any) -> None:
    parametrizations.weight_norm(net.fc)
    with torch.no_grad():
        net.fc.parametrizations.weight.original0.mul_(3)


def add_hook(net: Any) -> None:
    net.body.register_forward_hook(lambda module, args, output: output * 2)


def change_attribute(net: Any) -> None:
    net.scale = -2.0


CHANGES = [
    replace_head, replace_parameter, replace_data, write_in_place, load_weights, parametrize, add_hook,
    change_attribute,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_network_that_changed_after_the_first_call(change: Callable[[Any], None]) -> None:
    net = network()
    explainable = ExplainableModel(net, "body", "ablationcam", normalize=False)
    before = explainable(image(), torch.tensor([3, 1]))
    change(net)
    found = explainable(image(), torch.tensor([3, 1]))
    assert (found.logits - net(image())).abs().max() < 1e-12
    fresh = ExplainableModel(copy.deepcopy(net), "body", "ablationcam", normalize=False)(image(), torch.tensor([3, 1]))
    assert (found.cam - fresh.cam).abs().max() < 1e-12
    assert found.logits.shape != before.logits.shape or (found.logits - before.logits).abs().max() > 1e-3


def test_a_network_that_is_pruned_after_the_first_call() -> None:
    net = network()
    explainable = ExplainableModel(net, "body", "ablationcam")
    explainable(image())
    prune.l1_unstructured(net.fc, "weight", amount=0.5)
    pruned = explainable(image())
    assert (pruned.logits - net(image())).abs().max() < 1e-12
    prune.remove(net.fc, "weight")
    assert torch.equal(explainable(image()).cam, pruned.cam)
    assert (explainable(image()).logits - net(image())).abs().max() < 1e-12


def test_dropout_that_is_put_back_into_training_is_refused() -> None:
    net = network()
    explainable = ExplainableModel(net, "body", "ablationcam")
    explainable(image())
    net.dropout.train()
    with pytest.raises(ModelError, match="is in training mode"):
        explainable(image())


def test_an_unchanged_network_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from explainable_model.lowering.backward import networks

    captures: list[Any] = []
    capture = networks.captured_network
    monkeypatch.setattr(networks, "captured_network", lambda *given: captures.append(1) or capture(*given))  # type: ignore[func-returns-value]
    net = network()
    explainable = ExplainableModel(net, "body", "ablationcam")
    for _ in range(2):
        explainable(image())
        ExplainableModel(net, "body", "gradcam")(image())
        net(image())
    assert len(captures) == 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        explainable(image())
    assert len(captures) == 2


def test_the_cache_is_bounded_and_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "CAPACITY", 2)
    explainable = ExplainableModel(seeded(SmallNet()), "block", "reciprocam")
    for size in (16, 20, 24):
        explainable(images(1, (3, size, 16)))
    assert len(explainable._graphs) == 2
    expected = explainable(images(1, (3, 16, 16))).cam
    for made in (copy.deepcopy(explainable), pickle.loads(pickle.dumps(explainable))):
        assert len(made._graphs) == 0
        assert torch.equal(made(images(1, (3, 16, 16))).cam, expected)


class CountedBatch(SmallNet):
    """Reads the batch size as a number, which no graph with an open batch can."""

    def forward(self, image: Tensor) -> Tensor:
        activations = self.block(self.stem(image))
        return self.fc(activations.reshape(len(image), 10, -1).mean(2))


@pytest.mark.parametrize("method", ["guided_backprop", "fullgrad"])
def test_a_network_of_one_batch_size_has_a_graph_for_each(method: str) -> None:
    explainable = ExplainableModel(seeded(CountedBatch()), None, method)
    for batch in (1, 2, 1):
        image = images(batch, (3, 16, 16))
        expected = ExplainableModel(seeded(SmallNet()), None, method)(image, 3)
        assert torch.allclose(explainable(image, 3).cam, expected.cam, atol=1e-6)
    assert len(explainable._graphs) == 2


@pytest.mark.parametrize("method", ["ablationcam", "reciprocam"])
def test_copies_through_a_network_of_one_batch_size(method: str) -> None:
    network, image = seeded(CountedBatch()), images(2, (3, 16, 16))
    with pytest.raises(LoweringError, match="takes one batch size only, here 2.*Or give chunk_size=1"):
        ExplainableModel(network, "block", method)(image, 3)
    cam = ExplainableModel(network, "block", method, chunk_size=1)(image, 3).cam
    assert torch.allclose(cam, ExplainableModel(seeded(SmallNet()), "block", method)(image, 3).cam, atol=1e-6)


def test_augmentation_of_a_network_of_one_batch_size() -> None:
    explainable = ExplainableModel(seeded(CountedBatch()), None, "guided_backprop", augment=True)
    with pytest.raises(LoweringError, match="runs 12 copies at once"):
        explainable(images(2, (3, 16, 16)), 3)


class Settings:
    """A record of settings, as many networks keep one."""

    def __init__(self) -> None:
        self.scale = 1.0


class Configured(nn.Module):
    """A network whose forward reads settings that are changed where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.factors, self.options, self.settings = [1.0], {"head": {"power": 1}}, Settings()

    def forward(self, image: Tensor) -> Tensor:
        logits = self.fc(self.conv(image).tanh().mean((2, 3)))
        return logits * self.factors[0] * self.settings.scale ** self.options["head"]["power"]


def change_list(net: Configured) -> None:
    net.factors[0] = -2.0


def change_nested_dictionary(net: Configured) -> None:
    net.settings.scale = 3.0
    net.options["head"]["power"] = 2


def change_record(net: Configured) -> None:
    net.settings.scale = -3.0


@pytest.mark.parametrize("change", [change_list, change_nested_dictionary, change_record])
def test_settings_that_are_changed_where_they_are(change: Callable[[Configured], None]) -> None:
    net = seeded(Configured()).double()
    explainable = ExplainableModel(net, "conv", "reciprocam")
    explainable(image())
    change(net)
    got, expected = explainable(image()), ExplainableModel(net, "conv", "reciprocam")(image())
    assert torch.equal(got.logits, net(image()))
    assert torch.equal(got.cam, expected.cam)
