"""The table of ``explainable_model/methods/README.md`` says what the tests show, for every method and every peer."""

from pathlib import Path

import pytest

from explainable_model.methods import METHODS
from tests.peers import test_image_differences, test_layer_differences, test_score_differences
from tests.peers.differing import DIFFERENCES
from tests.peers.pairs import AGREEMENTS, PEERS

PAGE = Path(__file__).parents[2] / "explainable_model" / "methods" / "README.md"
# Importing these modules fills DIFFERENCES.
REGISTERED = (test_image_differences, test_layer_differences, test_score_differences)


def cells() -> dict[str, list[str]]:
    """Method -> the cells of its row, one for each peer and the text."""
    table = PAGE.read_text().split("<!-- peers -->")[1].split("<!-- /peers -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert rows[0][1:4] == list(PEERS)
    return {row[0].strip("`"): row[1:] for row in rows[2:]}


def shown(method: str, peer: str) -> str:
    """What the tests show of the peer's usual call."""
    bounds = [pair.bound for pair in AGREEMENTS if (pair.method, pair.peer) == (method, peer)]
    if (method, peer) in DIFFERENCES:
        assert not bounds
        return "differs"
    return f"{max(bounds):.0e}".replace("e-0", "e-") if bounds else ""


@pytest.mark.parametrize("method", list(METHODS))
def test_row(method: str) -> None:
    row = cells()[method]
    given = dict(zip(PEERS, row, strict=False))
    if method == "legrad":  # a network of tokens: a test of its own
        assert given.pop("torchcam") == "1e-5"
    assert given == {peer: shown(method, peer) for peer in given}
    if "differs" in row:
        rights = {DIFFERENCES[method, peer] for peer in PEERS if (method, peer) in DIFFERENCES}
        verdict = any(words in row[-1] for words in ("This library follows the paper", "This library divides"))
        assert verdict == (rights == {"ours"})


def test_every_row_is_a_method() -> None:
    assert list(cells()) == list(METHODS)
