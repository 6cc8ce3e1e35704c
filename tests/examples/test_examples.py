"""The examples: each script runs, says what it promises, and is the source of its notebook."""

import importlib.util
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def read_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_notebooks", EXAMPLES / "make_notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKER = read_maker()
SCRIPTS = MAKER.list_scripts()


def percents(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+)%", text)]


def check_folder(printed: str) -> None:
    assert percents(printed)[0] >= 90
    rows = re.findall(r"shapes/(\w+)/2\d\.png (\w+), \d+% \(", printed)
    assert rows == [("disc", "disc")] * 3 + [("square", "square")] * 3
    with Image.open("disc.png") as picture:
        assert picture.width > picture.height
    assert Path("methods.png").stat().st_size > 10_000


def check_labels(printed: str) -> None:
    shares = re.findall(r"(\w+): (\d+)% of the map in (\d+)% of the picture", printed)
    assert [name for name, *_ in shares] == ["red", "blue"]
    for _, inside, area in shares:
        assert int(inside) > 3 * int(area)


def check_segmentation(printed: str) -> None:
    right, left = percents(printed)
    assert right >= 95
    assert left >= 80
    assert printed.splitlines()[-1] == "(1, 64, 64)"


def check_clip(printed: str) -> None:
    first, second, shape = printed.splitlines()[-3:]
    assert "a photo of a cat" in first
    assert "a photo of a dog" in second
    assert shape == "torch.Size([1, 64, 64])"


def check_methods(printed: str) -> None:
    values = {name: float(value) for name, value in re.findall(r"(\w+): (-?\d\.\d\d) between", printed)}
    assert values["eigencam"] == 1
    assert values["gradcam"] < 0.9
    assert len(re.findall(r"box \[\d+, \d+, \d+, \d+\]", printed)) == 4


def check_cpp(printed: str) -> None:
    torchscript, onnx = (line.split(" ", 1) for line in printed.splitlines() if "(" in line)
    assert (torchscript[0], onnx[0]) == ("mine.ts", "mine.onnx")
    assert torchscript[1] == onnx[1]


CHECKS: dict[str, Callable[[str], None]] = {
    "clip_texts": check_clip,
    "compare_methods": check_methods,
    "finetune_folder": check_folder,
    "multilabel": check_labels,
    "segmentation": check_segmentation,
    "to_cpp": check_cpp,
}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_runs(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name="__main__")
    CHECKS[script.stem](capsys.readouterr().out)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_its_script(script: Path) -> None:
    notebook = EXAMPLES / "notebooks" / f"{script.stem}.ipynb"
    made = MAKER.write_text(MAKER.make_notebook(script.read_text(encoding="utf-8")))
    assert notebook.read_text(encoding="utf-8") == made, "run: python examples/make_notebooks.py"


def test_every_notebook_has_a_script_and_every_example_a_line() -> None:
    notebooks = {path.stem for path in (EXAMPLES / "notebooks").glob("*.ipynb")}
    assert notebooks == {path.stem for path in SCRIPTS} == set(CHECKS)
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in notebooks if f"({name}.py)" not in page or f"(notebooks/{name}.ipynb)" not in page] == []


def test_cells() -> None:
    made = MAKER.make_notebook("# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\n\n# %%\nx\n")
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in made["cells"]] == [
        ("markdown", "# Title\n\ntext"),
        ("code", "x = 1"),
        ("code", "x"),
    ]
