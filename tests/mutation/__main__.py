"""Puts small faults into the modules that decide what a map is, and counts those that the tests of their room notice.

    python -m tests.mutation                              every room, 30 mutants each
    python -m tests.mutation --room overlay --mutants 100
    python -m tests.mutation --seed 1 --json mutation.json

Each mutant runs, in a process of its own, the fast tests that execute its line. Needs ``coverage``. A mutant that
survives is printed: a test is missing, or it computes the same, which a person decides (``EQUIVALENT`` in rooms.py).
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mutation.mutants import make_mutants
from tests.mutation.rooms import EQUIVALENT, ROOMS, Room
from tests.mutation.run import Baseline, measure_baseline, preload, run_mutant

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="default: all; repeatable")
    parser.add_argument("--mutants", type=int, default=30, help="of each room; default: 30")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the results go")
    options = parser.parse_args(arguments)
    preload()
    results = {}
    for name in options.room or ROOMS:
        results[name] = _try_room(name, ROOMS[name], options.mutants, options.seed)
        if options.json:
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    killed = sum(room["killed"] for room in results.values())
    tried = sum(room["killed"] + len(room["survived"]) for room in results.values())
    print(f"{killed} of {tried} mutants that are not equivalent were noticed ({killed / max(tried, 1):.1%})")
    return 0


def _try_room(name: str, room: Room, count: int, seed: int) -> dict[str, Any]:
    """Try a sample of the mutants of a room's modules."""
    baseline = measure_baseline(ROOT, room)
    everything = [
        (path, mutant)
        for module in room.modules
        for path in sorted(ROOT.glob(module))
        for mutant in make_mutants(path.read_text())
    ]
    sample = random.Random(seed).sample(everything, min(count, len(everything)))
    print(f"{name}: {len(sample)} of {len(everything)} mutants, {len(baseline.seconds)} tests", flush=True)
    killed, equivalent, survived = 0, 0, []
    started = time.monotonic()
    for number, (path, mutant) in enumerate(sample, 1):
        where = f"{path.relative_to(ROOT)}:{mutant.line} {mutant.change}"
        if _noticed(path, mutant.line, mutant.source, baseline):
            killed += 1
        elif any(text in where for text in EQUIVALENT):
            equivalent += 1
        else:
            survived.append(where)
            print(f"  survived: {where}", flush=True)
        if number % 10 == 0:
            print(f"  {number} of {len(sample)}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return {"mutants": len(everything), "killed": killed, "equivalent": equivalent, "survived": survived}


def _noticed(path: Path, line: int, source: str, baseline: Baseline) -> bool:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return run_mutant(ROOT, module, source, baseline.choose_tests(path, line))


if __name__ == "__main__":
    sys.exit(main())
