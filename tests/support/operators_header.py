"""The operators of TorchScript artifacts for the C++ kit: ``python -m tests.support.operators_header`` writes them."""

from pathlib import Path
from textwrap import fill

from explainable_model.exporters.guard.operators import ATEN, IN_PLACE, PRIM, SCRIPT

HEADER = Path(__file__).parents[2] / "export" / "libtorch" / "operators.hpp"


def render() -> str:
    """The text of the header."""
    sets = {
        "kOperators": (ATEN, "compute tensors of their arguments"),
        "kInPlaceOperators": (IN_PLACE, "may write over their first argument, under their name with _ at the end"),
        "kScriptOperators": (SCRIPT, "work on numbers and lists"),
        "kPrimOperators": (PRIM, "TorchScript's own, in the namespace prim"),
    }
    parts = [
        "// The operators that a TorchScript artifact may call. Written by tests/support/operators_header.py from the\n"
        "// table of the library, explainable_model/exporters/guard/operators.py: change that one.\n"
        "#pragma once\n\n#include <set>\n#include <string>\n\nnamespace explainable {\n"
    ]
    for name, (words, meaning) in sets.items():
        listed = ", ".join(f'"{word}"' for word in sorted(words))
        body = fill(listed, 118, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
        parts.append(f"// {meaning}\ninline const std::set<std::string> {name} = {{\n{body}}};\n")
    return "\n".join([*parts, "}  // namespace explainable\n"])


if __name__ == "__main__":
    HEADER.write_text(render())
