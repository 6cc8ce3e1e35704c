"""The API page has every public name, and no other."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import explainable_model
from explainable_model import batch, errors, evaluation, methods, report, serving, targets

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = re.findall(r"^\.\. (?:auto\w+|py:data):: (\S+)$", PAGE, re.MULTILINE)
OF_ERRORS = [name for name, value in vars(errors).items() if isinstance(value, type)]
PUBLIC = {
    "explainable_model": dir(explainable_model),
    "explainable_model.batch": batch.__all__,
    "explainable_model.errors": OF_ERRORS,
    "explainable_model.evaluation": evaluation.__all__,
    "explainable_model.report": report.__all__,
    "explainable_model.serving": serving.__all__,
    "explainable_model.targets": targets.__all__,
}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_on_the_page(module: str) -> None:
    written = [name.rpartition(".")[2] for name in NAMES if name.rpartition(".")[0] == module]
    assert sorted(written) == sorted(PUBLIC[module])


@pytest.mark.parametrize("name", [name for name in NAMES if f"py:data:: {name}" not in PAGE])
def test_every_name_on_the_page_exists_and_says_something(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    value = getattr(import_module(module), attribute)
    assert value.__doc__


def test_every_method_is_in_the_gallery_or_says_why_not() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    left_out = re.search(r"^- (.*) need a vision transformer", page, re.MULTILINE)
    assert left_out is not None
    named = re.findall(r"`([\w+]+)`", left_out[1])
    drawn = re.findall(r"<br>`([\w+]+)`: ", page)
    assert sorted(drawn + named) == sorted(methods.METHODS)
    pictures = ROOT / "docs" / "pictures" / "methods"
    shown = {ROOT / "docs" / path for path in re.findall(r"!\[[^]]*\]\((pictures/methods/\S+)\)", page)}
    assert shown == set(pictures.iterdir())
    assert sum(path.stat().st_size for path in pictures.iterdir()) < 1_500_000
