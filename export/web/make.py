"""Make the files that the page needs: an artifact, onnxruntime-web, the colors, and photos to try.

python export/web/make.py                        # EfficientNet-Lite0 with ImageNet weights
python export/web/make.py --artifact mine.onnx   # an artifact of yours
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch

from explainable_model import ExplainableModel, export, read_metadata
from explainable_model.demo import TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.imaging.overlay import choose_colormap, palette
from explainable_model.writing import write_bytes

KIT = Path(__file__).parent
ASSETS = KIT / "site" / "assets"
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
        shutil.copy(RUNTIME / "dist" / name, folder)


def copy_examples(folder: Path) -> list[dict[str, str]]:
    """Copy CC0 photos from the scikit-image wheel."""
    folder.mkdir(exist_ok=True)
    photos = [Path(shutil.copy(photo, folder)) for photo in demo_photos()]
    return [{"name": photo.stem, "file": f"{folder.name}/{photo.name}"} for photo in photos]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, help="an .onnx artifact; default: EfficientNet-Lite0")
    artifact: Path | None = parser.parse_args().artifact
    ASSETS.mkdir(exist_ok=True)
    copy_runtime(ASSETS / "vendor")
    model = ASSETS / "model.onnx"
    if artifact is None:
        make_artifact(model)
    else:
        read_metadata(artifact)  # so that an error comes now and not in the browser
        shutil.copy(artifact, model)
    palettes = {name: palette(choose_colormap(signed=name == "diverging")).tolist() for name in ("plain", "diverging")}
    site = {"model": model.name, "palettes": palettes, "examples": copy_examples(ASSETS / "examples")}
    write_bytes(ASSETS / "site.json", json.dumps(site).encode())
    sys.stdout.write(f"{KIT / 'site'} is complete; serve it with: python {KIT / 'serve.py'}\n")


if __name__ == "__main__":
    main()
