"""A small network whose output ends in any way."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

SHAPE = (3, 8, 8)


class Ending(nn.Module):
    """A small network whose output ends as it is told."""

    def __init__(self, end: Callable[[Tensor], Any], classes: int = 3, *, dense: bool = False) -> None:
        super().__init__()
        self.conv, self.dense, self.end = nn.Conv2d(3, 4, 3, padding=1), dense, end
        self.head = nn.Conv2d(4, classes, 1) if dense else nn.Linear(4, classes)

    def forward(self, image: Tensor) -> Any:
        features = self.conv(image).relu()
        return self.end(self.head(features if self.dense else features.mean((2, 3))))


def identity(x: Tensor) -> Tensor:
    return x
