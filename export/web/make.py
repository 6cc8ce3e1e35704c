"""Make the files that the page needs: an artifact, onnxruntime-web, the colors, and photos to try; and compress them.

python export/web/make.py                        # EfficientNet-Lite0 with ImageNet weights
python export/web/make.py --artifact mine.onnx   # an artifact of yours
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from explainable_model import ExplainableModel, export, read_metadata
from explainable_model.demo import TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.demo.boxes import PHOTOS
from explainable_model.demo.files import find_in_package
from explainable_model.imaging.overlay import choose_colormap, palette
from explainable_model.writing import write_bytes

KIT = Path(__file__).parent
SITE = KIT / "site"
ASSETS = SITE / "assets"
RUNTIME = KIT / "node_modules" / "onnxruntime-web"
RUNTIME_FILES = [
    "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
]  # fmt: skip


def make_artifact(path: Path) -> None:
    """Export EfficientNet-Lite0, explained at its last layer before pooling."""
    named = efficientnet_lite0()
    image = torch.zeros(1, 3, *named.preprocess.size)
    explainable = ExplainableModel(named.model, TARGET_LAYER)
    export(explainable, path, image, preprocess=named.preprocess, class_names=named.class_names)


def copy_runtime(folder: Path) -> None:
    """Copy onnxruntime-web's files for WebAssembly and for WebGPU."""
    if not RUNTIME.is_dir():
        raise SystemExit(f"{RUNTIME.name} is not installed: run 'npm ci' in {KIT} first.")
    folder.mkdir(exist_ok=True)
    for name in RUNTIME_FILES:
        shutil.copy2(RUNTIME / "dist" / name, folder)  # with its time, so that it is compressed once


def copy_examples(folder: Path, *, has_boxes: bool) -> list[dict[str, str]]:
    """Copy CC0 photos from the scikit-image wheel."""
    folder.mkdir(exist_ok=True)
    boxed = [find_in_package("skimage", "data", name) for name in PHOTOS] if has_boxes else []
    photos = [Path(shutil.copy(photo, folder)) for photo in boxed or demo_photos()]
    return [{"name": photo.stem, "file": f"{folder.name}/{photo.name}"} for photo in photos]


def compress(files: list[Path]) -> None:
    """Write ``.br`` and ``.gz`` beside the files, for servers that send compressed files."""
    if shutil.which("node") is None:
        raise SystemExit("There is no node, which compresses the page's files: install Node 20 or newer.")
    subprocess.run(["node", KIT / "compress.mjs", *files], check=True)


def compute_version() -> str:
    """A text that changes with every file of the page, so that browsers renew their offline copy."""
    digest = hashlib.sha256()
    for file in sorted(file for file in SITE.rglob("*") if file.is_file()):
        if file.suffix not in (".br", ".gz") and file != ASSETS / "site.json":
            digest.update(file.relative_to(SITE).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, help="an .onnx artifact; default: EfficientNet-Lite0")
    artifact: Path | None = parser.parse_args().artifact
    ASSETS.mkdir(exist_ok=True)
    copy_runtime(ASSETS / "vendor")
    model, has_boxes = ASSETS / "model.onnx", False
    if artifact is None:
        make_artifact(model)
    else:
        has_boxes = read_metadata(artifact).detection is not None  # an error comes now and not in the browser
        shutil.copy(artifact, model)
    palettes = {name: palette(choose_colormap(signed=name == "diverging")).tolist() for name in ("plain", "diverging")}
    examples = copy_examples(ASSETS / "examples", has_boxes=has_boxes)
    site = {"model": model.name, "bytes": model.stat().st_size, "palettes": palettes, "examples": examples}
    compress([model, *(ASSETS / "vendor" / name for name in RUNTIME_FILES)])
    write_bytes(ASSETS / "site.json", json.dumps({**site, "version": compute_version()}).encode())
    sys.stdout.write(f"{SITE} is complete; serve it with: python {KIT / 'serve.py'}\n")


if __name__ == "__main__":
    main()
