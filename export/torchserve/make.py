"""Make a TorchServe archive of a TorchScript artifact: python make.py model.ts --store model-store.

The archive holds the artifact, the handler, settings, colors, and explainable_model itself (some 300 kB of Python).
The server needs torch, NumPy and Pillow; it installs and downloads nothing when it starts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import explainable_model
from explainable_model import read_metadata
from explainable_model.errors import ArtifactError, ExplainableModelError
from explainable_model.imaging.overlay import choose_colormap, palette
from explainable_model.writing import resolve_target

KIT = Path(__file__).parent


def make_archive(
    artifact: Path, store: Path, name: str, config: Path = KIT / "model-config.yaml", colormap: str | None = None
) -> Path:
    """Write ``store/name.mar``.

    Raises:
        ArtifactError: the file is not a TorchScript artifact of explainable_model, does not say how a picture becomes
            its input, or has a name that the archiver refuses.
        InputError: the colormap is unknown.
    """
    metadata = read_metadata(artifact)
    if metadata.format != "torchscript":
        raise ArtifactError(f"{artifact} is {metadata.format}; TorchServe takes TorchScript: export to a .ts file.")
    if metadata.preparation is None:
        raise ArtifactError(
            f"{artifact} does not say how a picture becomes its input; export it with preprocess=Preprocess(...)."
        )
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=f".{name}.") as work:
        extra = Path(work, "extra")
        package = Path(explainable_model.__file__).parent
        shutil.copytree(package, extra / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        np.save(extra / "palette.npy", palette(colormap or choose_colormap(signed=metadata.diverging)))
        archiver = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name]
        archiver += ["--version", metadata.versions.get("explainable-model", "1.0"), "--archive-format", "zip-store"]
        archiver += ["--serialized-file", str(artifact), "--handler", str(KIT / "handler.py")]
        archiver += ["--extra-files", str(extra), "--config-file", str(config), "--export-path", work]
        done = subprocess.run(archiver, env={**os.environ, "TMPDIR": work}, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise ArtifactError(f"torch-model-archiver cannot make {name}.mar: {reason[0]}")
        return Path(work, f"{name}.mar").replace(resolve_target(store / f"{name}.mar"))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path, help="a .ts file made by explainable_model")
    parser.add_argument("--store", type=Path, default=Path("model-store"), help="the folder of archives")
    parser.add_argument("--name", help="the model's name in URLs; default: the artifact's")
    parser.add_argument("--config", type=Path, default=KIT / "model-config.yaml", help="another model-config.yaml")
    parser.add_argument("--colormap", help="the overlays' colormap, by matplotlib's name; default: one that suits")
    arguments = parser.parse_args()
    name = arguments.name or arguments.artifact.stem
    try:
        made = make_archive(arguments.artifact, arguments.store, name, arguments.config, arguments.colormap)
    except ExplainableModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{made} ({made.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
