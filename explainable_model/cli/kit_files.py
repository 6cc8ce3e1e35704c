"""The kits that a clone has under ``export/`` and a wheel inside the package."""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from explainable_model.cli.outcome import make_folder
from explainable_model.errors import InputError
from explainable_model.spelling import suggest
from explainable_model.writing import StagedOutput

PACKAGE = Path(__file__).parents[1]
IN_WHEEL, IN_CLONE = PACKAGE / "kits", PACKAGE.parent / "export"
PAGES = "https://github.com/explainable-model/explainable-model/blob/main/"
LEFT_OUT = ("test_*.py", "conftest.py", "test", "stand_in", "__pycache__", "node_modules", "assets", ".*_cache")
"""Names of the tests and of what a build leaves behind; a wheel has none of them either."""


@dataclass(frozen=True)
class Kit:
    """One kit.

    Attributes:
        summary: what it runs on.
        shared: folders that it uses besides its own.
    """

    summary: str
    shared: tuple[str, ...] = ()


KITS = {
    "edge": Kit("Python without torch, on servers and small devices: ONNX Runtime, OpenVINO, ExecuTorch"),
    "libtorch": Kit("C++ with libtorch: TorchScript, AOTInductor", ("cpp",)),
    "onnxruntime": Kit("C++ with ONNX Runtime", ("cpp",)),
    "web": Kit("a page in the browser: WebGPU, WebAssembly"),
    "litserve": Kit("an HTTP server in Python: ONNX, TorchScript", ("http",)),
    "torchserve": Kit("TorchServe: HTTP and gRPC, TorchScript", ("http",)),
    "triton": Kit("Triton and KServe: ONNX, TorchScript", ("http",)),
}


def find_kits() -> Path:
    """Find the folder of the kits.

    Raises:
        InputError: the package was installed without them.
    """
    for folder in (IN_WHEEL, IN_CLONE):
        if all((folder / name).is_dir() for name in KITS):
            return folder
    raise InputError(
        f"The kits are missing: expected {IN_WHEEL}. Install explainable-model from a wheel, or work in a clone."
    )


def find_kit(name: str) -> Path:
    """Find the folder of one kit.

    Raises:
        InputError: no such kit, or the package was installed without kits.
    """
    if name not in KITS:
        raise InputError(f"There is no kit {name!r}; the kits are {', '.join(KITS)}.{suggest(name, KITS)}")
    return find_kits() / name


def copy_kit(name: str, folder: Path) -> list[Path]:
    """Copy a kit, with the folders that it shares with others, into a new folder: all of it or nothing.

    Args:
        name: key of ``KITS``.
        folder: must not exist, or be empty. The kit becomes ``folder/name``.

    Returns:
        The files, relative to the folder.

    Raises:
        InputError: no such kit, something is in the folder, or its parent cannot be made.
        ArtifactError: the folder cannot be written.
    """
    source = find_kit(name).parent
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not empty; name a new folder for the kit.")
    parts = (name, *KITS[name].shared)
    if folder.is_dir():
        folder.rmdir()
    make_folder(folder.parent)
    with StagedOutput(folder) as staged:
        for part in parts:
            shutil.copytree(source / part, staged.file / part, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for page in staged.file.rglob("*.md"):
            page.write_text(adapt_page(page.read_text(encoding="utf-8"), parts, folder), encoding="utf-8")
        staged.file.rename(folder)
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def adapt_page(text: str, parts: tuple[str, ...], folder: Path) -> str:
    """Let a page's commands name the copied folders, and its other links lead to the project's pages."""
    names = "|".join(map(re.escape, parts))
    text = re.sub(r"\]\(\.\./\.\./", f"]({PAGES}", text)
    text = re.sub(rf"\]\(\.\./(?!(?:{names})/)", f"]({PAGES}export/", text)
    return re.sub(rf"\bexport/(?=(?:{names})\b)", lambda _: f"{shlex.quote(folder.as_posix())}/", text)
