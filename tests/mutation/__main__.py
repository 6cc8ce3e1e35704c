"""Puts small faults into the modules that decide what a map is, and counts those that the tests of their room notice.

    python -m tests.mutation                              every room, 30 mutants each
    python -m tests.mutation --room overlay --mutants 100 --minutes 10
    python -m tests.mutation --summary mutation.json

Each mutant runs, in a process of its own, the fast tests that execute its line. Needs ``coverage``. A mutant that
survives is printed: a test is missing, or it computes the same, which a person decides (``EQUIVALENT`` in rooms.py).
A second run with the same log tries only what was not noticed, so it tells which of them a new test notices.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutation.mutants import Mutant, make_mutants
from tests.mutation.rooms import ROOMS, Room, reason_of
from tests.mutation.run import measure_baseline, preload, run_mutant

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Verdict:
    """What happened to one mutant.

    Attributes:
        room: key of ``ROOMS``.
        key: see ``Candidate``.
        where: path and line.
        change: what was changed.
        killed: whether a test failed.
    """

    room: str
    key: str
    where: str
    change: str
    killed: bool


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=str(__doc__).splitlines()[0])
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="default: all; repeatable")
    parser.add_argument("--mutants", type=int, default=30, help="of each room; default: 30")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--minutes", type=float, help="stop after so many; a second run goes on")
    parser.add_argument("--log", type=Path, default=Path("mutation.jsonl"), help="verdicts, one a line")
    parser.add_argument("--summary", type=Path, help="where to write the counts, as JSON")
    options = parser.parse_args(arguments)
    preload()
    known = _read_log(options.log)
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else None
    results = {}
    for name in options.room or ROOMS:
        everything = list(list_mutants(ROOMS[name]))
        sample = draw(everything, options.mutants, options.seed)
        _try(name, sample, known, options.log, deadline)
        results[name] = _count(name, everything, known)
        if options.summary:
            options.summary.write_text(json.dumps({"seed": options.seed, "rooms": results}, indent=1) + "\n")
    killed = sum(room["killed"] for room in results.values())
    tried = sum(room["killed"] + len(room["survived"]) for room in results.values())
    print(f"{killed} of {tried} mutants that are not equivalent were noticed ({killed / max(tried, 1):.1%})")
    return 0


@dataclass(frozen=True)
class Candidate:
    """A mutant of a file, with a key that changes elsewhere in the file leave alone."""

    path: Path
    mutant: Mutant
    key: str

    @property
    def where(self) -> str:
        """Path and line."""
        return f"{self.path.relative_to(ROOT)}:{self.mutant.line}"


def list_mutants(room: Room) -> Iterator[Candidate]:
    """Every mutant of a room's modules. Equal changes of equal statements are counted."""
    for path in room.module_files(ROOT):
        seen: Counter[str] = Counter()
        for mutant in make_mutants(path.read_text()):
            text = f"{path.relative_to(ROOT)} {mutant.change} in {mutant.statement}"
            seen[text] += 1
            yield Candidate(path, mutant, hashlib.sha256(f"{text} {seen[text]}".encode()).hexdigest()[:16])


def draw(everything: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """Draw a sample that a change of one module hardly changes, and that a larger ``count`` continues."""
    return sorted(everything, key=lambda row: hashlib.sha256(f"{seed} {row.key}".encode()).hexdigest())[:count]


def _read_log(path: Path) -> dict[tuple[str, str], Verdict]:
    lines = path.read_text().splitlines() if path.is_file() else []
    verdicts = [Verdict(**json.loads(line)) for line in lines if line.endswith("}")]
    return {(verdict.room, verdict.key): verdict for verdict in verdicts}


def _try(
    name: str,
    sample: Sequence[Candidate],
    known: dict[tuple[str, str], Verdict],
    log: Path,
    deadline: float | None,
) -> None:
    """Run the mutants of a sample that no earlier run has seen killed, and that are not known to be equivalent."""
    left = []
    for row in sample:
        verdict = known.get((name, row.key))
        if not (verdict and (verdict.killed or reason_of(row.where, row.mutant.change, row.mutant.statement))):
            left.append(row)
    if not left or (deadline and time.monotonic() > deadline):
        return
    baseline = measure_baseline(ROOT, ROOMS[name], log.with_suffix(".tests"))
    print(f"{name}: {len(left)} of {len(sample)} mutants, {len(baseline.seconds)} tests", flush=True)
    for number, row in enumerate(left, 1):
        if deadline and time.monotonic() > deadline:
            return
        mutant, module = row.mutant, ".".join(row.path.relative_to(ROOT).with_suffix("").parts)
        tests = [*ROOMS[name].always, *baseline.choose_tests(row.path, mutant.lines)]
        killed = run_mutant(ROOT, module.removesuffix(".__init__"), mutant.source, tests)
        verdict = Verdict(name, row.key, row.where, mutant.change, killed)
        known[name, verdict.key] = verdict
        with log.open("a") as file:
            file.write(json.dumps(asdict(verdict)) + "\n")
        if not killed:
            print(f"  survived: {row.where} {mutant.change}", flush=True)
        print(f"\r  {number} of {len(left)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _count(name: str, everything: Sequence[Candidate], known: dict[tuple[str, str], Verdict]) -> dict[str, Any]:
    """The counts of a room, the equivalent mutants with their reasons, and the others that survived."""
    tried = [(row, known[name, row.key].killed) for row in everything if (name, row.key) in known]
    equivalent, survived = [], []
    for row, killed in tried:
        where, change = row.where, row.mutant.change
        reason = reason_of(where, change, row.mutant.statement)
        if killed:
            continue
        if reason:
            equivalent.append({"where": where, "change": change, "reason": reason})
        else:
            survived.append(f"{where} {change}")
    return {
        "mutants": len(everything),
        "tried": len(tried),
        "killed": sum(killed for _, killed in tried),
        "equivalent": equivalent,
        "survived": survived,
    }


if __name__ == "__main__":
    sys.exit(main())
