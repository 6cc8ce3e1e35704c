"""The two lanes: ``tests/slow.toml`` lists the tests that ``pytest`` alone leaves out, and the skips of CI."""

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).parents[1] / "slow.toml"


@dataclass(frozen=True)
class Pattern:
    """Names tests by node id: a file, a function with all its parameters, or one test; ``*`` stands for any text."""

    text: str

    def matches(self, node_id: str) -> bool:
        wanted = ".*".join(re.escape(part) for part in self.text.split("*"))
        return re.fullmatch(rf"{wanted}(\[.*|::.*)?", node_id, re.DOTALL) is not None


@dataclass(frozen=True)
class Row:
    """Tests that are slow for one reason.

    Attributes:
        reason: why they take longer than a second.
        tests: these are slow,
        but: except these, which stay in the fast lane.
    """

    reason: str
    tests: tuple[Pattern, ...]
    but: tuple[Pattern, ...] = ()

    def matches(self, node_id: str) -> bool:
        return _any(self.tests, node_id) and not _any(self.but, node_id)


@dataclass(frozen=True)
class Lanes:
    """The table of slow tests and the skips that CI accepts."""

    slow: tuple[Row, ...]
    skips: tuple[str, ...]

    @classmethod
    def read(cls, path: Path = TABLE) -> "Lanes":
        """Raises KeyError where a row has no reason or no tests."""
        table = tomllib.loads(path.read_text())
        rows = [
            Row(row["reason"], tuple(map(Pattern, row["tests"])), tuple(map(Pattern, row.get("but", ()))))
            for row in table["slow"]
        ]
        return cls(tuple(rows), tuple(row["message"] for row in table["skip"] if row["reason"]))

    def is_slow(self, node_id: str) -> bool:
        return any(row.matches(node_id) for row in self.slow)

    def unused(self, node_ids: Sequence[str]) -> list[str]:
        """Patterns of the table that match no test."""
        patterns = [pattern for row in self.slow for pattern in (*row.tests, *row.but)]
        return [pattern.text for pattern in patterns if not any(map(pattern.matches, node_ids))]

    def accepts_skip(self, message: str) -> bool:
        """Whether a test may be skipped in CI, where every runtime is installed."""
        return any(known in message for known in self.skips)


def _any(patterns: Iterable[Pattern], node_id: str) -> bool:
    return any(pattern.matches(node_id) for pattern in patterns)
