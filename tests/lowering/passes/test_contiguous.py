"""Products with the network's matrices are one product, however the network turns its values."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from explainable_model import ExplainableModel, lower
from tests.support.nets import seeded


class Turned(nn.Module):
    """Attention as torchvision's vision transformer has it, and a linear layer behind a convolution's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.mix = nn.Linear(16, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, image: Tensor) -> Tensor:
        grid = self.mix(self.stem(image).permute(0, 2, 3, 1)).relu().permute(0, 3, 1, 2)
        tokens = grid.flatten(2).transpose(1, 2)
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head((tokens + mixed).mean(1))


class Products(TorchDispatchMode):
    """Counts what PyTorch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("layer", ["stem", "mix"])
@pytest.mark.parametrize("batch", [2, 3])
def test_products_with_weights_are_single(layer: str, batch: int) -> None:
    model = ExplainableModel(seeded(Turned().double()), layer)
    image = torch.randn(batch, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(batch))
    lowered = lower(model, image[:2])
    with torch.no_grad(), Products() as products:
        found = lowered(image)
    # the attention's own, back and forth, are the only ones with a matrix for every image
    assert products.counts["bmm"] == len(
        [node for node in lowered.graph_module.graph.nodes if node.target is torch.ops.aten.matmul.default
         and node.args[1].meta["val"].ndim > 2]
    )  # fmt: skip
    expected = model(image)
    assert torch.allclose(found.cam, expected.cam, rtol=0, atol=1e-12)
    assert torch.allclose(found.logits, expected.logits, rtol=0, atol=1e-12)
