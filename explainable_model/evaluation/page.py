"""The page of an evaluation: one file of HTML that loads nothing."""

import html
from collections.abc import Mapping, Sequence

from explainable_model.evaluation.intervals import Interval
from explainable_model.evaluation.measures import MEASURES, Measure

STYLE = """
:root { color-scheme: light dark; --bar: #3b6fb6; --rest: #9994; --text: #222; --back: #fff; --weak: #666 }
@media (prefers-color-scheme: dark) { :root { --bar: #7aa7e8; --text: #eee; --back: #16181c; --weak: #aaa } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
section { margin: 2rem 0 } h2 { margin-bottom: 0; font-size: 1.15rem } p { margin: .2rem 0; color: var(--weak) }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 500; width: 14rem }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; width: 12rem }
svg { display: block; width: 100%; height: 1.2rem } rect.bar { fill: var(--bar) } rect.rest { fill: var(--rest) }
line { stroke: var(--text); stroke-width: 2; vector-effect: non-scaling-stroke }
"""
WORDS = {"larger": "Larger is better.", "smaller": "Smaller is better.", "neither": "Describes the map alone."}


def draw_page(
    summary: Mapping[str, Mapping[str, Interval | None]],
    measures: Sequence[str],
    errors: Mapping[str, str],
    photos: int,
) -> str:
    """Draw a section for each measure, with a bar and an interval for each candidate.

    Args:
        summary: as ``Evaluation.summary``.
        measures: keys of ``MEASURES``.
        errors: why a photo was left out, by its name.
        photos: how many were measured.
    """
    sections = "".join(_draw_section(MEASURES[name], summary) for name in measures)
    failed = "".join(f"<li>{html.escape(text)}</li>" for text in errors.values())
    left_out = f"<section><h2>Left out</h2><ul>{failed}</ul></section>" if failed else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Evaluation of maps</title><style>{STYLE}</style><h1>Evaluation of maps</h1>"
        f"<p>Means of {photos} photos; the lines are 95 % intervals. No measure decides alone: read each beside the "
        f"random map and the center map, which know neither the photo nor the network.</p>{sections}{left_out}</html>\n"
    )


def _draw_section(measure: Measure, summary: Mapping[str, Mapping[str, Interval | None]]) -> str:
    found = {name: row[measure.name] for name, row in summary.items()}
    low, high = _find_range(measure, [value for value in found.values() if value is not None])
    rows = "".join(_draw_row(name, value, low, high) for name, value in found.items())
    return (
        f"<section><h2>{measure.name}</h2><p>{html.escape(measure.formula)}. {WORDS[measure.better]} "
        f"Source: {html.escape(measure.source)}.</p><table>{rows}</table></section>"
    )


def _find_range(measure: Measure, values: Sequence[Interval]) -> tuple[float, float]:
    low, high = measure.range
    largest = max((value.high for value in values), default=1.0)
    return (0.0 if low is None else low), (max(largest, 1e-9) if high is None else high)


def _draw_row(name: str, value: Interval | None, low: float, high: float) -> str:
    if value is None:
        return f'<tr><th scope="row">{html.escape(name)}</th><td></td><td class="number">no value</td></tr>'

    def place(number: float) -> float:
        return 100 * (min(max(number, low), high) - low) / (high - low)

    zero = place(0.0)
    start, end = sorted((zero, place(value.mean)))
    bars = (
        f'<rect class="rest" width="100" height="10"/><rect class="bar" x="{start:.2f}" width="{end - start:.2f}" '
        f'height="10"/><line x1="{place(value.low):.2f}" x2="{place(value.high):.2f}" y1="5" y2="5"/>'
    )
    return (
        f'<tr><th scope="row">{html.escape(name)}</th><td><svg viewBox="0 0 100 10" preserveAspectRatio="none" '
        f'aria-hidden="true">{bars}</svg></td><td class="number">{value}</td></tr>'
    )
