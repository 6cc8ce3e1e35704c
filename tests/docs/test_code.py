"""Every block of Python on a page runs, and prints what its comments promise."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.test_docs import FENCE, PAGES, ROOT, name_of, text_of

# What a page takes as given before its first block.
GIVEN = {
    "docs/evaluation.md": """
import shutil
import types
import numpy as np
import torch
from PIL import Image
from pathlib import Path
from torchvision.models.resnet import BasicBlock, ResNet
from explainable_model import ExplainableModel, Preprocess, export
model, image = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval(), torch.randn(1, 3, 64, 64)
weights = types.SimpleNamespace(transforms=lambda: Preprocess((64, 64)))
explainable = ExplainableModel(model, "layer3")
export(explainable, "lite0.onnx", image, preprocess=weights.transforms())
for name in ("float32.onnx", "int8.onnx"):
    shutil.copy("lite0.onnx", name)
Path("photos").mkdir()
Path("masks").mkdir()
for number in range(4):
    pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(f"photos/{number}.png")
    Image.fromarray(np.pad(np.full((20, 20), 255, np.uint8), 22)).save(f"masks/{number}.png")
""",
    "docs/report.md": """
import numpy as np
from pathlib import Path
from tests.support.run_folders import blob, make_row, write_run
write_run(Path("run"), [make_row(str(n), blob(n % 7, 3), class_idx=n % 2) for n in range(24)])
""",
    "docs/onnx.md": """
import warnings
import torch
from torch import nn
parts = nn.Conv2d(3, 8, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    network, open_batch = nn.Sequential(*parts).eval(), {"input_names": ["image"], "dynamic_axes": {"image": {0: "N"}}}
    torch.onnx.export(network, (torch.zeros(2, 3, 224, 224),), "classifier.onnx", dynamo=False, **open_batch)
""",
    "docs/batch.md": """
import shutil
import torch
from pathlib import Path
from torchvision.models.resnet import BasicBlock, ResNet
from explainable_model import ExplainableModel, Preprocess, export
from explainable_model.batch import explain_data_set
shutil.copy("cat.jpg", "dog.jpg")
model = ExplainableModel(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=3).eval(), "layer3", upsample="none")
export(model, "lite0.onnx", torch.randn(1, 3, 64, 64), preprocess=Preprocess((64, 64)))
explain_data_set("lite0.onnx", ["cat.jpg", "dog.jpg"], "run", processes=0)
from tests.support.run_folders import make_box, make_box_row, write_run
write_run(Path("boxes"), [make_box_row("a.jpg", [make_box([0, 0, 9, 9])]), make_box_row("b.jpg")])
""",
    "export/edge/README.md": """
import torch, torchvision
from explainable_model import ExplainableModel, Preprocess, export
network, image = torchvision.models.resnet18(weights=None, num_classes=2).eval(), torch.randn(1, 3, 224, 224)
names = ["cat", "dog"]
""",
    "docs/detection.md": """
import torch
from torch import nn
from tests.support.detectors import photos, tiny_fcos
from PIL import Image
from explainable_model.demo.files import find_in_package
Image.open(find_in_package("skimage", "data", "coins.png")).convert("RGB").save("street.jpg")
detector, image = tiny_fcos(), photos(1)
torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 1)).eval()
""",
    "docs/cli.md": "import torch\ndef make_network(): return torch.nn.Conv2d(3, 2, 3).eval()",
    "CONTRIBUTING.md": """
import math
import torch
from torch import Tensor
from explainable_model.lowering.rules.call import Call, Gradients
""",
    "export/web/README.md": """
import torch, torchvision
from explainable_model import ExplainableModel, Preprocess, export
model, image = torchvision.models.resnet18(weights=None).eval(), torch.randn(1, 3, 224, 224)
""",
}
# Pages that another test runs, which knows more about them.
ELSEWHERE = {
    "README.md": "tests/test_packaging.py",
    "docs/first-hour.md": "tests/test_docs.py",
    "docs/from-hooks.md": "tests/examples/test_xray.py",
    "docs/medical.md": "tests/examples/test_medical_page.py",
    "docs/photos.md": "tests/test_docs.py",
    "docs/targets.md": "tests/test_docs.py",
    "docs/use.md": "tests/test_docs.py",
}
# Blocks with this text are not run.
NOT_RUN = {
    "docs/batch.md": (
        "photos.map",
        "they need a cluster or packages of others; tests/batch/test_adapters.py runs them",
    ),
    "docs/report.md": ("wandb.init", "it needs a package of others; tests/report/test_tools.py runs it"),
    "export/edge/README.md": ("io_binding", "it needs a GPU; the tests of the kit run it on the CPU"),
}
PROMISE = re.compile(r"^.*print\(.*\) +# ([\[(]?[\d., \])]+|torch\.Size\(.*\)|There is .*)$", re.MULTILINE)


def code_of(page: Path) -> str:
    blocks = [(spaces, code) for spaces, language, code in FENCE.findall(text_of(page)) if language == "python"]
    left_out, _ = NOT_RUN.get(name_of(page), (None, ""))
    run = [(spaces, code) for spaces, code in blocks if left_out is None or left_out not in code]
    return "\n".join(re.sub(f"^{spaces}", "", code, flags=re.MULTILINE) for spaces, code in run)


WITH_CODE = [page for page in PAGES if code_of(page)]
RUN = [page for page in WITH_CODE if name_of(page) not in ELSEWHERE]


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
    printed = capsys.readouterr().out.replace("torch.Size([", "(").replace("])", ")")
    for promise in PROMISE.findall(code):
        assert promise.strip() in printed


def test_the_tables_name_pages_with_code() -> None:
    assert {*GIVEN, *ELSEWHERE, *NOT_RUN} <= {name_of(page) for page in WITH_CODE}
    for page, test in ELSEWHERE.items():
        assert Path(page).name in text_of(ROOT / test)
    for page, (text, _) in NOT_RUN.items():
        assert text in text_of(ROOT / page)


def test_promises_are_read() -> None:
    assert PROMISE.findall("print(x.shape)      # (1, 8)\nprint(error)  # There is no x.\n") == [
        "(1, 8)",
        "There is no x.",
    ]
    assert PROMISE.findall("print(x)      # why a tabby, and not a tiger cat") == []
