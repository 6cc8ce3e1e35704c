"""Every block of Python on a page runs, and prints what its comments promise."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.test_docs import FENCE, PAGES, ROOT, name_of, text_of

# What a page takes as given before its first block.
GIVEN = {
    "docs/cli.md": "import torch\ndef make_network(): return torch.nn.Conv2d(3, 2, 3).eval()",
    "CONTRIBUTING.md": """
import math
import torch
from torch import Tensor
from explainable_model.lowering.rules.call import Call, Gradients
""",
    "export/web/README.md": """
import torch
from explainable_model import ExplainableModel, Preprocess, export
from tests.support.nets import TinyResNet, seeded
model, image = seeded(TinyResNet(3)), torch.zeros(1, 3, 224, 224)
""",
}
# Pages that another test runs, which knows more about them.
ELSEWHERE = {
    "README.md": "tests/test_packaging.py",
    "docs/first-hour.md": "tests/test_docs.py",
    "docs/photos.md": "tests/test_docs.py",
    "docs/targets.md": "tests/test_docs.py",
    "docs/use.md": "tests/test_docs.py",
}
NOT_RUN = {
    "export/edge/README.md": "the block needs a GPU; the tests of the kit run the binding on the CPU",
    "tests/data/README.md": "the block made files of an earlier version",
}
PROMISE = re.compile(r"^.*print\(.*\) +# ([\[(]?[\d., \])]+|torch\.Size\(.*\)|There is .*)$", re.MULTILINE)


def code_of(page: Path) -> str:
    blocks = [(spaces, code) for spaces, language, code in FENCE.findall(text_of(page)) if language == "python"]
    return "\n".join(re.sub(f"^{spaces}", "", code, flags=re.MULTILINE) for spaces, code in blocks)


WITH_CODE = [page for page in PAGES if code_of(page)]
RUN = [page for page in WITH_CODE if name_of(page) not in ELSEWHERE | NOT_RUN]


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((100, 90), 50).convert("RGB").save("cat.jpg")
    torch.manual_seed(0)
    code = code_of(page)
    names = {"__name__": "a_page"}
    exec(compile(GIVEN.get(name_of(page), "") + "\n" + code, name_of(page), "exec"), names)
    printed = capsys.readouterr().out
    for promise in PROMISE.findall(code):
        assert promise.strip() in printed


def test_the_tables_name_pages_with_code() -> None:
    named = {*GIVEN, *ELSEWHERE, *NOT_RUN} - {"tests/data/README.md"}
    assert named <= {name_of(page) for page in WITH_CODE}
    for page, test in ELSEWHERE.items():
        assert Path(page).name in text_of(ROOT / test)


def test_promises_are_read() -> None:
    assert PROMISE.findall("print(x.shape)      # (1, 8)\nprint(error)  # There is no x.\n") == [
        "(1, 8)",
        "There is no x.",
    ]
    assert PROMISE.findall("print(x)      # why a tabby, and not a tiger cat") == []
