"""Results on disk: one JSON per suite, written after every row, so that an interrupted run can go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.timing import describe_environment
from benchmarks.verdict import judge
from explainable_model.writing import write_bytes

RESULTS = Path(__file__).parent / "results"
Row: TypeAlias = dict[str, Any]


class Results:
    """The rows of one suite, and the environment each of them was measured in.

    Args:
        folder: the folder of the JSON.
        suite: the name of the suite.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self.path = folder / f"{suite}.json"
        stored = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.rows: dict[str, Row] = {key: judge(row) for key, row in stored.get("rows", {}).items()}
        self.environment: Mapping[str, Any] = stored.get("environment", {})

    def has(self, key: str) -> bool:
        """Whether a row was measured without an error."""
        return key in self.rows and "failed" not in self.rows[key]

    def put(self, key: str, row: Row, order: list[str]) -> None:
        """Keep a row, as a failed one where its answer is wrong.

        Rows are stored in the given order, and others after them.
        """
        self.rows[key] = judge(row)
        known = [name for name in order if name in self.rows]
        self.rows = {name: self.rows[name] for name in [*known, *(n for n in self.rows if n not in known)]}
        self.environment = describe_environment()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"environment": self.environment, "rows": self.rows}, indent=1) + "\n"
        write_bytes(self.path, text.encode())
