"""Lays siege to the library, part by part, and writes what became of it.

    python -m tests.siege                                  every part, a minute or so each
    python -m tests.siege artifacts pictures --scale 10    two parts, ten times as long
    python -m tests.siege --long --json siege.json         the figures of SECURITY.md; takes about an hour

Every part is bounded and stops by itself. The exit code is 1 where something did harm.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.siege.parts import PARTS

LONG = 10


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="how much more of everything; default: 1")
    parser.add_argument("--long", action="store_true", help=f"the same as --scale {LONG}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results are added")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; expected {', '.join(PARTS)}")
    harmed = False
    for name in options.parts or PARTS:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[name](Path(folder), LONG if options.long else options.scale)
        result = {"seconds": round(time.monotonic() - started), **found}
        harm = find_harm(found)
        harmed = harmed or bool(harm)
        print(f"{name}: {result['seconds']} s, {len(harm)} did harm", *harm[:20], sep="\n  ", flush=True)
        if options.json:
            add_result(options.json, name, result)
    return int(harmed)


def add_result(path: Path, name: str, result: dict[str, Any]) -> None:
    """Put the result of a part in place of its earlier one; parts may run at the same time, and end at any."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[name] = result
    path.write_text(json.dumps({part: results[part] for part in PARTS if part in results}, indent=1) + "\n")


def find_harm(found: Any) -> list[str]:
    """Everything that did harm, in the results of a part."""
    if not isinstance(found, dict):
        return []
    return [*found.get("harm", ()), *(harm for value in found.values() for harm in find_harm(value))]


if __name__ == "__main__":
    sys.exit(main())
