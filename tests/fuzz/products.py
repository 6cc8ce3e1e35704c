"""A block of operations that no layer has."""

from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional


class Product(nn.Module):
    """Operations that no layer has: einsum, gates, slices, shifts, sums along the map."""

    def __init__(self, rng: Random, channels: int, dims: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels, channels))
        self.doubled = nn.Conv2d(channels, 2 * channels, 1)
        self.coordinates = nn.Conv2d(channels + 2, channels, 1)
        self.bound = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.way = rng.randrange(15)

    def forward(self, tensor: Tensor) -> Tensor:
        if self.way >= 10:
            return self._with_constants(tensor, self.way)
        way = self.way
        if way == 0:
            return torch.einsum("nchw,dc->ndhw", tensor, self.weight)
        if way == 1:
            return functional.glu(self.doubled(tensor), 1)
        if way == 2:
            value, gate = self.doubled(tensor).chunk(2, 1)
            return value * torch.tanh(gate)
        if way == 3:
            return tensor + torch.roll(tensor, (1, -1), (2, 3)) - tensor.flip(3)
        if way == 4:
            return functional.pad(tensor, (1, 0, 0, 1))[:, :, 1:, :-1] + 0.5 * tensor
        if way == 5:
            return tensor + torch.matmul(tensor, tensor.transpose(2, 3)).softmax(-1) @ tensor
        if way == 6:
            return torch.minimum(*self.doubled(tensor).chunk(2, 1)) + tensor
        if way == 7:
            return tensor / (1e-2 + tensor.std((2, 3), keepdim=True)) + tensor.cumsum(3) / tensor.shape[3]
        if way == 8:
            even, odd = tensor[:, 0::2], tensor[:, 1::2]
            return torch.cat([even * odd, even - odd], 1)
        return torch.addcmul(tensor, tensor.softmax(1), tensor, value=2.0)

    def _with_constants(self, tensor: Tensor, way: int) -> Tensor:
        """Coordinates, bounds, and values of the map without a gradient."""
        if way == 10:
            rows, columns = (torch.linspace(-1, 1, length).to(tensor) for length in tensor.shape[2:])
            grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(tensor.shape[0], -1, -1, -1)
            return self.coordinates(torch.cat([tensor, grid], 1))
        if way == 11:
            return torch.maximum(tensor, self.bound) + self.bound.expand_as(tensor)
        if way == 12:
            return tensor * (tensor > tensor.mean((2, 3), keepdim=True)).to(tensor.dtype)
        if way == 13:
            return tensor / (0.1 + tensor.detach().abs().amax((1, 2, 3), keepdim=True))
        strongest = tensor.flatten(2).argmax(2, keepdim=True)
        return tensor - tensor.flatten(2).roll(1, 2).gather(2, strongest).unsqueeze(3)
