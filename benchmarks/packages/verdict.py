"""The rule that judges a row: right, rightly refused, or wrong."""

import re

from benchmarks.coverage_row import FORMAT_TOLERANCE, REFERENCE_TOLERANCE, SINGLE_TOLERANCE
from benchmarks.packages.case import Case
from benchmarks.packages.row import Row, says

RIGHT, REFUSED, WRONG, MISSING = "right", "refused", "WRONG", "not installed"


def judge(case: Case, row: Row) -> tuple[str, str]:
    """The verdict on a row and its reason.

    A row is right if the layer, its grid and the kind of the output are those that a person expects, a change in a
    corner of the image shows in the same corner of the map, and every comparison stays within its limit. A refusal is
    right if it has the words that say what to do.
    """
    if row.get("stage") == "build":
        return MISSING, row["error"]
    if case.refused:
        if "error" not in row:
            return WRONG, f"explained at {row['layer']!r}; expected a refusal with {case.refused!r}"
        return (REFUSED, row["error"]) if says(case.refused, row) else (WRONG, row["error"])
    if row.get("stage") == "eager":
        return WRONG, row["error"]
    wrong = [*_find_wrong_sense(case, row), *_find_wrong_figures(case, row)]
    if row.get("stage") == "artifact":
        known = case.artifact_refused and says(case.artifact_refused, row)
        if not known:
            wrong.append(f"artifact: {row['error']}")
        elif not wrong:
            return RIGHT, f"in PyTorch; the artifact is refused: {row['error']}"
    if wrong:
        return WRONG, "; ".join(wrong)
    return RIGHT, "" if row.get("dynamic_batch", True) else "at the example's batch size only"


def _find_wrong_sense(case: Case, row: Row) -> list[str]:
    wrong = []
    if row["layer"] not in case.layers:
        wrong.append(f"layer {row['layer']!r}, expected {' or '.join(map(repr, case.layers))}")
    if case.warned and not any(re.search(case.warned, text) for text in row.get("warnings", ())):
        wrong.append(f"no warning with {case.warned!r}")
    if tuple(row["grid"]) != case.grid:
        wrong.append(f"grid {tuple(row['grid'])}, expected {case.grid}")
    if row["located"] is not None and row["located"][0] < row["located"][1]:
        wrong.append(f"the map follows the image in {row['located'][0]} of {row['located'][1]} corners")
    if "kind" in row and row["kind"] != case.kind:
        wrong.append(f"output read as {row['kind']}, expected {case.kind}")
    return wrong


def _find_wrong_figures(case: Case, row: Row) -> list[str]:
    if "map" not in row:
        return ["nothing is compared"]
    if not row["map"] > 0:
        return ["the map is zero everywhere"]
    limit = SINGLE_TOLERANCE if case.single else REFERENCE_TOLERANCE
    wrong = [f"{name} differs by {row[name]:.1e}" for name in ("reference", "lowered") if not row.get(name, 0) <= limit]
    for name, measured in row.get("formats", {}).items():
        if "error" in measured:
            if not measured["error"].startswith("the plain network"):
                wrong.append(f"{name}: {measured['error']}")
        elif not measured["median"] <= FORMAT_TOLERANCE:
            wrong.append(f"{name} differs by {measured['median']:.1e} in the median image")
    return wrong
