"""The commands, their options and the examples of their help. A command's own module is imported when it runs."""

import argparse
from collections.abc import Callable
from pathlib import Path

from explainable_model.artifact.metadata import PRECISIONS, PROFILES
from explainable_model.artifact.shapes import PIXEL_DTYPES, PIXELS
from explainable_model.cli.arguments import (
    FILE_HELP,
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

ENGINES = ("local", "ray")
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


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    add_photos(parser)
    add_source(parser)
    add_preparation(parser)
    add_output_kind(parser)
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="methods of a network; default: gradcam")
    parser.add_argument("--layers", nargs="+", metavar="NAME", help="layers of a network; default: found by itself")
    parser.add_argument("--measures", nargs="+", metavar="NAME", help="default: the usual ones, see docs/evaluation.md")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="pictures with the photos' names: where the class is")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn; default: %(default)s")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep the values of each photo, and continue there")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write a page (.html), a table (.csv) or .json")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="folders, files, patterns in quotes, tables of paths (.csv), WebDataset tars (.tar), Parquet files that "
        "hold the photos' bytes, stores (s3://bucket/photos)",
    )
    add_trusted(parser)
    parser.add_argument(
        "--class", dest="class_name", metavar="N|NAME", help="default: the predicted class of each photo"
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="best classes in a row; default: %(default)s")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--labels", type=Path, metavar="FILE", help="a .csv file with the columns path and label")
    labels.add_argument("--folder-labels", action="store_true", help="the name of a photo's folder is its label")
    parser.add_argument("--retry-failed", action="store_true", help="also make the rows again that have an error")
    parser.add_argument("--engine", choices=ENGINES, default=ENGINES[0], help="default: %(default)s")
    parser.add_argument(
        "--processes", type=parse_count, metavar="N", help="default: measured, from 2,000 photos on; of ray: actors"
    )
    parser.add_argument("--threads", type=parse_count, metavar="N", help="of each process; default: measured")
    parser.add_argument(
        "--batch", type=parse_count, default=8, metavar="N", help="photos at once; default: %(default)s"
    )
    parser.add_argument(
        "--part", type=parse_count, metavar="N", help="rows of a file, which a kill can cost; default: 50 to 1000"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="the run: new, or to go on with")


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", type=Path, metavar="A", help=FILE_HELP)
    parser.add_argument("b", type=Path, metavar="B", help="another one")
    add_photos(parser)
    add_trusted(parser)


def _add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that batch wrote")
    parser.add_argument("--against", type=Path, metavar="RUN", help="another run of the same photos, to compare with")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="where the photos lie now; default: where they lay")
    parser.add_argument("--no-thumbnails", action="store_true", help="draw the maps alone, and read no photo")
    parser.add_argument(
        "--limit", type=parse_count, default=5000, metavar="N", help="most photos on the page; default: %(default)s"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page; default: the name of the folder")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page, ending in .html")


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
            "export --model ./my_detector.py:factory --task detection --top-k 5 -o boxes.onnx",
        ),
    ),
    "verify": (
        "compare an artifact with its recorded answer",
        _add_verify,
        ("verify lite0.onnx", "verify resnet50.onnx --model timm:resnet50 --checkpoint weights.pth"),
    ),
    "evaluate": (
        "measure how faithful, stable and class-specific maps are",
        _add_evaluate,
        (
            "evaluate photos --artifact lite0.onnx --out evaluation.html",
            "evaluate photos --model timm:resnet50 --checkpoint weights.pth --methods gradcam layercam",
            "evaluate photos --artifact lite0.onnx --masks masks --measures pointing_game iou --json",
        ),
    ),
    "batch": (
        "explain a data set: one row per photo, in Parquet",
        _add_batch,
        (
            "batch lite0.onnx photos -o run",
            "batch lite0.onnx 'shards/*.tar' -o run --processes 4",
            "batch lite0.onnx photos -o run --labels labels.csv --json",
        ),
    ),
    "compare": (
        "compare two artifacts on the same photos",
        _add_compare,
        ("compare float32.onnx int8.onnx photos",),
    ),
    "report": (
        "write a page of the photos of a run: the wrong ones, the maps, the shortcuts",
        _add_report,
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
