"""The registry of the tests that show a difference: which method, from which peer, and who is right."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])

DIFFERENCES: dict[tuple[str, str], str] = {}
"""(method, peer) -> ``"ours"`` where this library follows the paper and the peer does not, ``"both"`` where the paper
leaves the matter open."""


def differs(method: str, *peers: str, right: str) -> Callable[[Test], Test]:
    """Mark a test that shows where a method differs from that of some peers."""

    def mark(test: Test) -> Test:
        DIFFERENCES.update({(method, peer): right for peer in peers})
        return test

    return mark
