"""The commands, their options and the examples of their help. A command's own module is imported when it runs."""

import argparse
from collections.abc import Callable
from pathlib import Path

from explainable_model.artifact.metadata import PRECISIONS, PROFILES
from explainable_model.artifact.shapes import PIXEL_DTYPES, PIXELS
from explainable_model.cli import photo_set_arguments
from explainable_model.cli.arguments import (
    MODEL_HELP,
    add_file,
    add_model,
    add_output_kind,
    add_photos,
    add_size,
    add_source,
    add_style,
    add_trusted,
    add_weights,
    add_window,
)
from explainable_model.cli.console import PROGRAM
from explainable_model.cli.method_options import TASKS, add_method_options, parse_count
from explainable_model.cli.parser import Parser, Version, show_examples
from explainable_model.cli.preparation import add_preparation
from explainable_model.exporters import FORMATS
from explainable_model.imaging.overlay import ALPHA, HIDE

KEEP_HELP = (
    "of onnx:FILE, written to .onnx: keep the file's own nodes, and its predictions to the last bit; default: where it "
    "is quantized, or has operators that only ONNX Runtime computes"
)
PRECISION_HELP = (
    "of " + ", ".join(fmt.name for fmt in FORMATS.values() if fmt.precisions) + " artifacts; default: the network's own"
)
OUT_HELP = "the suffix picks the format: " + ", ".join(suffix for fmt in FORMATS.values() for suffix in fmt.suffixes)


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of every command and its options."""
    parser = Parser(
        prog=PROGRAM,
        description="A trained vision network in, one artifact out, that returns the prediction\n"
        "and the class activation map that explains it.",
        epilog=show_examples(
            "demo",
            "explain cat.jpg --model timm:resnet50 --checkpoint weights.pth --out pictures",
            "export --model ./my_model.py:factory --size 224x224 -o my_model.onnx",
            "explain photos --artifact my_model.onnx --out pictures --csv pictures.csv",
            "serve my_model.onnx",
            "kit onnxruntime my-kit",
        ),
    )
    parser.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    children = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, (summary, add, examples) in COMMANDS.items():
        child = children.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=show_examples(*examples)
        )
        child.set_defaults(command=name, parser=child, json=False)
        add(child)
        if name != "serve":  # what a server prints is its log
            child.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--task", choices=TASKS, help="detection: each box of a detector; default: a classifier")
    add_style(parser)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add_photos(parser)
    add_source(parser)
    add_preparation(parser)
    add_output_kind(parser)
    add_method_options(parser, all_methods=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument(
        "--picture",
        choices=["png", "jpg", "webp", "dcm"],
        default="png",
        help="format of the pictures; dcm is DICOM, without a patient; default: %(default)s",
    )
    parser.add_argument(
        "--keep-patient", action="store_true", help="pictures in DICOM name the patient and the study of the photo"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--skip-existing", action="store_true", help="leave out photos whose pictures are there")
    existing.add_argument("--overwrite", action="store_true", help="replace pictures that are there")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write a table, a row as soon as it is known")
    parser.add_argument("--jsonl", action="store_true", help="print a line of JSON as soon as a photo is explained")
    parser.add_argument("--class", dest="class_name", metavar="N|NAME", help="default: the predicted class")
    add_window(parser, "those of the artifact, the file or its type")
    add_style(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.0, metavar="T", help="value of the map, 0 to 1, below which --hide applies"
    )
    parser.add_argument(
        "--hide", choices=HIDE, default=HIDE[0], help="what the overlay hides below the threshold; default: %(default)s"
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_preparation(parser)
    add_output_kind(parser)
    add_method_options(parser)
    parser.add_argument(
        "--example", type=Path, metavar="PHOTO", help="compare the artifact with the network on it; default: noise"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="PHOTO",
        help="of a detector: store a coarse copy of it with its boxes, by which servers and pages check themselves",
    )
    parser.add_argument("--dynamic-size", action="store_true", help="take images of any height and width")
    parser.add_argument(
        "--batch", type=parse_count, metavar="N", help="take exactly N images at once; default: any number"
    )
    photos = parser.add_argument_group("photos instead of prepared images")
    photos.add_argument(
        "--pixels",
        choices=PIXELS,
        help="take photos of any size in this layout (RGB; NHW: gray) and prepare them inside the artifact",
    )
    photos.add_argument(
        "--pixel-dtype", choices=PIXEL_DTYPES, default=PIXEL_DTYPES[0], help="type of the photos; uint16 needs --window"
    )
    add_window(photos, "those of the file or its type")
    photos.add_argument("--render", choices=["overlay"], help="also return the photo under its map; needs --pixels")
    photos.add_argument("--colormap", metavar="NAME", help="colors of the overlay, a name that matplotlib knows")
    photos.add_argument(
        "--alpha", type=float, metavar="A", help=f"share of the heatmap in the overlay, 0 to 1; default: {ALPHA}"
    )
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        default=PROFILES[0],
        help="portable: for runtimes with few operators, one batch size",
    )
    parser.add_argument("--opset", type=parse_count, metavar="N", help="version of ONNX's operators; default: 18")
    parser.add_argument("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    parser.add_argument("--calibrate", type=Path, metavar="FOLDER", help="photos for --precision int8; better hundreds")
    parser.add_argument("--keep-graph", action=argparse.BooleanOptionalAction, help=KEEP_HELP)
    parser.add_argument("--format", metavar="NAME", help="see: formats; default: that of the suffix of the file")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=OUT_HELP)


def _add_verify(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    add_trusted(parser)
    parser.add_argument("--model", metavar="NAME", help=f"also compare with this network: {MODEL_HELP}")
    add_weights(parser)
    parser.add_argument(
        "--nodes", action="store_true", help="compare every node of any .onnx file in PyTorch and ONNX Runtime instead"
    )
    add_size(parser)


def _add_layers(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_size(parser)


def _add_methods(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def _add_formats(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a .onnx or .ts artifact, made by export")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="of 127.0.0.1; default: %(default)s")
    parser.add_argument("--name", help="the model's name in URLs; default: the file's")
    parser.add_argument("--workers", type=parse_count, metavar="N", help="processes that answer; default: 1")
    parser.add_argument("--threads", type=parse_count, metavar="N", help="of each worker; default: all cores")


def _add_kit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the kit; without it, the kits are listed")
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="a new folder for the kit")


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], tuple[str, ...]]] = {
    "demo": (
        "explain photos with real weights in three formats",
        _add_demo,
        ("demo --out demo-output", "demo --task detection"),
    ),
    "explain": (
        "predict and explain photos",
        _add_explain,
        (
            "explain cat.jpg --artifact lite0.onnx --out pictures",
            "explain photos --artifact lite0.onnx --out pictures --picture jpg --csv pictures.csv --skip-existing",
            "explain cat.jpg --model timm:resnet50 --checkpoint weights.pth --class tabby --out pictures",
            "explain scan.png --model ./my_model.py:factory --size 256x256 --mean 0.5 --std 0.25 --out pictures",
            "explain street.jpg --model ./my_detector.py:factory --task detection --out pictures",
        ),
    ),
    "export": (
        "write one artifact that predicts and explains",
        _add_export,
        (
            "export --model timm:resnet50 --checkpoint weights.pth -o resnet50.onnx",
            "export --model ./my_model.py:factory --preprocess torchvision:resnet50 -o mine.onnx",
            "export --model torchvision:resnet50 --pretrained --pixels NHWC --render overlay -o photos.onnx",
            "export --model ./my_detector.py:factory --task detection --example street.jpg -o boxes.onnx",
        ),
    ),
    "verify": (
        "compare an artifact with its recorded answer",
        _add_verify,
        ("verify lite0.onnx", "verify resnet50.onnx --model timm:resnet50 --checkpoint weights.pth"),
    ),
    "evaluate": (
        "measure how faithful, stable and class-specific maps are",
        photo_set_arguments.add_evaluate,
        (
            "evaluate photos --artifact lite0.onnx --out evaluation.html",
            "evaluate photos --model timm:resnet50 --checkpoint weights.pth --methods gradcam layercam",
            "evaluate photos --artifact lite0.onnx --masks masks --measures pointing_game iou --json",
        ),
    ),
    "batch": (
        "explain a data set: one row per photo, in Parquet",
        photo_set_arguments.add_batch,
        (
            "batch lite0.onnx photos -o run",
            "batch lite0.onnx 'shards/*.tar' -o run --processes 4",
            "batch lite0.onnx photos -o run --labels labels.csv --json",
            "batch detector.onnx photos -o boxes",
        ),
    ),
    "compare": (
        "compare two artifacts on the same photos",
        photo_set_arguments.add_compare,
        ("compare float32.onnx int8.onnx photos",),
    ),
    "report": (
        "write a page of the photos of a run: the wrong ones, the maps, the shortcuts",
        photo_set_arguments.add_report,
        ("report run -o report.html", "report run --against run-of-the-old-model -o changes.html"),
    ),
    "inspect": ("print an artifact's metadata", add_file, ("inspect lite0.onnx --json",)),
    "layers": (
        "list the layers of a network that can be explained",
        _add_layers,
        ("layers --model torchvision:resnet50", "layers --model ./my_model.py:factory --size 256x256"),
    ),
    "methods": ("list the methods, their papers, costs and options", _add_methods, ("methods", "methods --json")),
    "formats": ("list the formats of artifacts, and what is installed", _add_formats, ("formats",)),
    "serve": (
        "serve an artifact over HTTP on 127.0.0.1, with the kit for LitServe",
        _add_serve,
        ("serve lite0.onnx", "serve lite0.onnx --port 8001 --workers 2 --threads 1"),
    ),
    "kit": (
        "copy a kit, which runs artifacts on one target, into a new folder",
        _add_kit,
        ("kit", "kit onnxruntime my-kit"),
    ),
}
