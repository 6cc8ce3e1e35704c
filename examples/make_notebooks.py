"""``python examples/make_notebooks.py`` writes a notebook for each script. Change the scripts.

A cell begins with ``# %%``, and a cell of text with ``# %% [markdown]``. The notebooks have no outputs.
"""

import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent
NOTEBOOKS = EXAMPLES / "notebooks"
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def list_scripts() -> list[Path]:
    """The scripts that have cells."""
    return sorted(path for path in EXAMPLES.glob("*.py") if CELL.match(path.read_text(encoding="utf-8")))


def make_notebook(script: str) -> dict[str, Any]:
    """Make the notebook of a script."""
    parts = CELL.split(script)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    cells = [make_cell(number, marker is not None, text.strip("\n")) for number, (marker, text) in enumerate(pairs)]
    return {"cells": cells, "metadata": {"kernelspec": KERNEL}, "nbformat": 4, "nbformat_minor": 5}


def make_cell(number: int, is_text: bool, text: str) -> dict[str, Any]:
    if is_text:
        text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
    cell: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
    if is_text:
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **cell}


def write_text(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOKS.mkdir(exist_ok=True)
    for path in list_scripts():
        notebook = make_notebook(path.read_text(encoding="utf-8"))
        (NOTEBOOKS / f"{path.stem}.ipynb").write_text(write_text(notebook), encoding="utf-8")
        print(f"{path.stem}: {len(notebook['cells'])} cells")
