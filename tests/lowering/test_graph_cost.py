"""Guards the speed of the artifacts without timing them: what is counted here is what was measured to be fast.

``graph_costs.json`` holds, for each network and layer, how many nodes the ONNX graph may have. Where a change makes it
smaller, lower the number.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.artifacts import write_unverified
from benchmarks.graph_cost import OnnxGraph, compare_flops, compute_floor, read_onnx, write_plain_onnx
from benchmarks.networks import Network, build
from explainable_model import ExplainableModel, LoweredModel, lower

BOUNDS = json.loads(Path(__file__).with_name("graph_costs.json").read_text())
LARGEST_SIZE = 1.02  # of the plain file, where the last layer is explained
FLOPS_ABOVE_FLOOR = 1.02  # attention is computed again for its gradient
NETWORKS = [
    Network("torchvision", "resnet18", "layer2", 64),
    Network("timm", "lcnet_050", "", 64),
    Network("timm", "densenet121", "features.denseblock2", 64, {"block_config": (2, 2, 2, 2)}),
    Network("timm", "convnext_atto", "stages.1", 64, {"depths": (1, 1, 1, 1)}),
    Network("timm", "vit_tiny_patch16_224", "blocks.0.norm1", 64, {"img_size": 64, "depth": 2}),
]


@dataclass(frozen=True)
class Built:
    """A network, its explanation at one layer, and the files of both."""

    network: Network
    where: str
    image: torch.Tensor
    explainable: ExplainableModel
    lowered: LoweredModel
    plain: OnnxGraph
    explained: OnnxGraph


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.name)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Built]]:
    torch.set_num_threads(1)
    network, folder = request.param, tmp_path_factory.mktemp("graphs")
    model, image = build(network), torch.randn(2, 3, network.size, network.size)
    write_plain_onnx(model, image, folder / "plain.onnx")
    both = []
    for where, layer in (("last", None), ("middle", network.early))[: 2 if network.early else 1]:
        explainable = ExplainableModel(model, layer)
        lowered = lower(explainable, image)
        path = folder / f"{where}.onnx"
        write_unverified(lowered, "onnx", path)
        plain, explained = read_onnx(folder / "plain.onnx"), read_onnx(path)
        both.append(Built(network, where, image, explainable, lowered, plain, explained))
    yield both
    for file in folder.iterdir():
        file.unlink()


def test_no_more_nodes_than_there_were(built: list[Built]) -> None:
    counted = {each.where: each.explained.nodes for each in built}
    allowed = BOUNDS[built[0].network.name]
    assert all(counted[where] <= allowed[where] for where in allowed), f"{counted} nodes, allowed {allowed}"


def test_nothing_walks_through_memory_index_by_index(built: list[Built]) -> None:
    for each in built:
        assert not set(each.explained.slow) - set(each.plain.slow)


def test_no_weight_is_stored_twice(built: list[Built]) -> None:
    for each in built:
        assert each.explained.repeated == []


def test_the_last_layer_needs_no_weights_of_its_own(built: list[Built]) -> None:
    assert built[0].explained.size <= LARGEST_SIZE * built[0].plain.size


def test_no_more_is_computed_than_the_gradient_needs(built: list[Built]) -> None:
    for each in built:
        model, image = each.explainable.model, each.image
        computed = compare_flops(lambda each=each: each.lowered(each.image), model, image)
        assert computed <= FLOPS_ABOVE_FLOOR * compute_floor(each.explainable, image)
        # Of the block behind the layer, one token is read.
        less = (each.network.name, each.where) == ("vit_tiny_patch16_224", "last")
        assert (computed < 1) == less
        assert each.where == "last" or computed > 1.02  # the backward is in the count


def test_several_classes_run_no_convolution_of_the_network_again(built: list[Built]) -> None:
    for each in built:
        several = lower(ExplainableModel(each.explainable.model, each.explainable.target_layer, top_k=3), each.image)
        assert convolutions(several) == convolutions(each.lowered) > 0


def convolutions(lowered: LoweredModel) -> int:
    nodes = lowered.graph_module.graph.nodes
    return sum("conv" in str(node.target) for node in nodes if node.op == "call_function")
