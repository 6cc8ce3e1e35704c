"""Run many cases: ``python -m tests.fuzz --networks 2000 --seed 0``."""

import argparse
import json
import platform
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.fuzz.cases import draw_case
from tests.fuzz.checks import FORMATS, Outcome, check_case


def run_seed(seed: int, formats: Sequence[str], lowered_every: int, formats_every: int) -> Outcome:
    """Check the case of a seed eagerly; one case in so many as a graph, and one in so many in the formats."""
    torch.set_num_threads(1)
    try:
        case = draw_case(seed)
    except Exception as error:
        return Outcome(seed, "none", {"draw": f"wrong: {type(error).__name__}: {error}"})
    in_formats = formats_every > 0 and seed % formats_every == 0
    lowers = in_formats or (lowered_every > 0 and seed % lowered_every == 0)
    return check_case(case, formats if in_formats else (), lowers=lowers)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Counts by stage, by method and by kind of verdict."""
    stages: dict[str, Counter[str]] = defaultdict(Counter)
    methods: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    for outcome in outcomes:
        for stage, verdict in outcome.stages.items():
            kind, _, reason = verdict.partition(": ")
            stages[stage][kind] += 1
            methods[outcome.method][f"{stage} {kind}"] += 1
            if reason:
                reasons[f"{stage} {kind}: {reason[:90]}"] += 1
    return {
        "networks": len(outcomes),
        "open": [row.to_dict() for row in outcomes if row.wrong],
        "stages": {name: dict(row) for name, row in stages.items()},
        "methods": {name: dict(sorted(row.items())) for name, row in sorted(methods.items())},
        "reasons": dict(reasons.most_common()),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What the comparison ran on."""
    from importlib.metadata import version

    names = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def read_log(path: Path) -> dict[int, Outcome]:
    """Outcomes of an earlier run; a line that was cut off is left out."""
    done = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):
            row = json.loads(line)
            done[row["seed"]] = Outcome(**row)
    return done


def run_all(seeds: Iterable[int], arguments: argparse.Namespace) -> Iterator[Outcome]:
    """Outcomes in the order in which they are ready."""
    check = partial(
        run_seed,
        formats=arguments.formats,
        lowered_every=arguments.lowered_every,
        formats_every=arguments.formats_every,
    )
    if arguments.jobs == 1:
        yield from map(check, seeds)
        return
    with ProcessPoolExecutor(arguments.jobs, max_tasks_per_child=200) as pool:
        yield from pool.map(check, seeds)


def parse() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--networks", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=FORMATS, help="formats to compare in")
    parser.add_argument("--lowered-every", type=int, default=1, metavar="N", help="lower one network in N; 0 for none")
    parser.add_argument("--formats-every", type=int, default=1, metavar="N", help="export one network in N; 0 for none")
    parser.add_argument(
        "--log", type=Path, default=Path("fuzz.jsonl"), help="outcomes, one a line; a second run goes on"
    )
    parser.add_argument("--summary", type=Path, help="where to write the counts of the whole log, as JSON")
    return parser.parse_args()


def main() -> int:
    """Run the seeds that the log does not have, and write the summary; 1 where a comparison is open."""
    arguments = parse()
    seeds = range(arguments.seed, arguments.seed + arguments.networks)
    done = read_log(arguments.log)
    start, wrong = time.monotonic(), sum(bool(row.wrong) for row in done.values())
    with arguments.log.open("a") as log:
        for outcome in run_all([seed for seed in seeds if seed not in done], arguments):
            done[outcome.seed] = outcome
            log.write(json.dumps(outcome.to_dict()) + "\n")
            log.flush()
            wrong += bool(outcome.wrong)
            if outcome.wrong:
                print(f"\n{outcome.case or outcome.seed}\n  {outcome.wrong}", file=sys.stderr)
            ready, seconds = sum(seed in done for seed in seeds), time.monotonic() - start
            print(f"\r{ready} of {len(seeds)}, {wrong} open, {seconds:.0f} s", end="", file=sys.stderr)
    summary = json.dumps(summarize([done[seed] for seed in sorted(done)]), indent=1)
    print(file=sys.stderr)
    print(summary) if arguments.summary is None else arguments.summary.write_text(summary + "\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
