"""The letters of the C++ kits in one case: ``python -m tests.support.letter_cases_header`` writes the table."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

HEADER = Path(__file__).parents[2] / "export" / "cpp" / "letter_cases.hpp"
BLOCKS = (range(0x590), range(0x1E00, 0x2000), range(0xFB00, 0xFB18), range(0xFF00, 0xFF60))  # ligatures, full width


def list_runs() -> Iterator[tuple[int, int, int, int]]:
    """Letters that fold to one letter, ``(first, last, step, shift)``."""
    run: list[int] = []
    shift = 0
    for code in (code for block in BLOCKS for code in block if len(chr(code).casefold()) == 1):
        moved = ord(chr(code).casefold()) - code
        if not moved:
            continue
        step = run[1] - run[0] if len(run) > 1 else code - run[0] if run else 1
        if run and moved == shift and step in (1, 2) and code - run[-1] == step:
            run.append(code)
            continue
        if run:
            yield run[0], run[-1], run[1] - run[0] if len(run) > 1 else 1, shift
        run, shift = [code], moved
    yield run[0], run[-1], run[1] - run[0] if len(run) > 1 else 1, shift


def render() -> str:
    """The text of the header."""
    runs = ", ".join("{" + ", ".join(map(str, run)) + "}" for run in list_runs())
    folded = ((code, chr(code).casefold()) for block in BLOCKS for code in block)
    long = ", ".join(
        f'{{{code}, U"' + "".join(f"\\u{ord(letter):04x}" if ord(letter) > 127 else letter for letter in text) + '"}'
        for code, text in folded
        if len(text) > 1
    )
    return f"""// Letters of Latin, Greek, Cyrillic and Armenian in one case, as Python's str.casefold. Written by
// tests/support/letter_cases_header.py: change that one.
#pragma once

#include <map>
#include <string>

namespace explainable {{

struct LetterRun {{
  char32_t first, last;
  int step, shift;
}};

// Letters that become one other letter.
inline constexpr LetterRun kLetterRuns[] = {{
{fill(runs, 118, initial_indent="    ", subsequent_indent="    ")}}};

// Letters that become several.
inline const std::map<char32_t, std::u32string> kLongLetters = {{
{fill(long, 118, initial_indent="    ", subsequent_indent="    ", break_long_words=False)}}};

}}  // namespace explainable
"""


if __name__ == "__main__":
    HEADER.write_text(render())
