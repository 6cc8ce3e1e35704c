"""What the heatmap costs in WebAssembly: explained against plain, in pairs, in Node on one thread; writes JSON.

python export/web/bench.py [--pairs 30] > bench.json     # after make_site.py
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from explainable_model import ExplainableModel
from explainable_model.demo import PREPROCESS, TARGET_LAYER, demo_photos, efficientnet_lite0
from explainable_model.preprocess import open_photo

KIT = Path(__file__).parent
EXPLAINED = KIT / "site" / "assets" / "model.onnx"


def write_plain(model: torch.nn.Module, image: torch.Tensor, path: Path) -> None:
    """The same network without a heatmap, as PyTorch exports it."""
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(model, (image.repeat(2, 1, 1, 1),), dynamic_shapes=({0: batch},))
    names = {"input_names": ["image"], "output_names": ["logits"]}
    program = torch.onnx.export(exported, **names, opset_version=18, dynamo=True, verbose=False)
    program.save(path, external_data=False)


def write_expected(explainable: ExplainableModel, folder: Path) -> list[str]:
    """Inputs and the eager network's answers, as little-endian float32."""
    for photo in demo_photos():
        image = torch.from_numpy(PREPROCESS(open_photo(photo)))
        logits, _, cam = explainable(image)
        for name, array in {"image": image, "logits": logits, "cam": cam}.items():
            array.numpy().tofile(folder / f"{photo.stem}.{name}")
    return [photo.stem for photo in demo_photos()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    pairs: int = parser.parse_args().pairs
    model = efficientnet_lite0().model
    explainable = ExplainableModel(model, TARGET_LAYER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos = write_expected(explainable, folder)
        write_plain(model, torch.from_numpy(PREPROCESS(open_photo(demo_photos()[0]))), folder / "plain.onnx")
        command = ["node", KIT / "bench.mjs", folder / "plain.onnx", EXPLAINED, folder, str(pairs), *photos]
        measured = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    about = {"model": "EfficientNet-Lite0", "target_layer": TARGET_LAYER, "machine": platform.machine()}
    json.dump({**about, **measured}, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
