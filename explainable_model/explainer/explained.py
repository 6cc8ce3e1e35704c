"""What every answer says of how it was made."""

from collections.abc import Callable
from typing import Protocol


class _Maker(Protocol):
    @property
    def method(self) -> str: ...

    @property
    def list_layers(self) -> Callable[[], tuple[str, ...]]: ...


class Explained:
    """The base of the answers for photos, volumes and boxes: the method and the layers of their ``explainer``."""

    explainer: _Maker

    @property
    def method(self) -> str:
        """Key of ``METHODS``."""
        return self.explainer.method

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the explained layers; empty where the method explains at the image itself."""
        return self.explainer.list_layers()
