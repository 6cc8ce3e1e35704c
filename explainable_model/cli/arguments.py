"""The options that several commands share."""

import argparse
from pathlib import Path

from explainable_model.cli.method_options import parse_photo_window, parse_size
from explainable_model.explanation import OUTPUT_KINDS
from explainable_model.exporters import FORMATS
from explainable_model.imaging.overlay import ALPHA, COLORMAP, SIGNED_COLORMAP

MODEL_HELP = (
    "torchvision:NAME, timm:NAME, transformers:FOLDER, onnx:FILE, or a function that returns the network: "
    "package.module:factory, ./my_model.py:factory"
)
TRUSTED_HELP = "open the artifact even where it may run code: only for files whose maker you trust"
FILE_HELP = "an artifact, made by export: " + ", ".join(end for fmt in FORMATS.values() for end in fmt.suffixes)
SIZE_HELP = "size of the images, for example 224x224; default: the size in training"


def add_model(parser: argparse.ArgumentParser, extra: str = "") -> None:
    """Add the network, which must be named."""
    parser.add_argument("--model", required=True, metavar="NAME", help=f"{extra}{MODEL_HELP}")
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add where a network's weights come from."""
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, metavar="FILE", help="trained weights: .pth, .pt or .safetensors")
    weights.add_argument("--pretrained", action="store_true", help="let torchvision or timm download its weights")
    parser.add_argument(
        "--classes", type=int, metavar="N", help="number of classes; default: that of torchvision or timm"
    )


def add_file(parser: argparse.ArgumentParser) -> None:
    """Add the artifact that a command reads."""
    parser.add_argument("file", type=Path, metavar="FILE", help=FILE_HELP)


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add what explains: a network with its weights, or an artifact."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="NAME", help=MODEL_HELP)
    source.add_argument("--artifact", type=Path, metavar="FILE", help="a file made by export")
    add_trusted(parser)
    add_weights(parser)


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the photos that a command reads."""
    parser.add_argument(
        "photos",
        nargs="+",
        type=Path,
        metavar="PHOTO",
        help="a file, a folder with its subfolders, or a pattern in quotes, such as 'photos/**/*.jpg'",
    )


def add_trusted(parser: argparse.ArgumentParser) -> None:
    """Add the permission to run code of an artifact."""
    parser.add_argument("--trusted", action="store_true", help=TRUSTED_HELP)


def add_output_kind(parser: argparse.ArgumentParser) -> None:
    """Add how an output is read as probabilities."""
    parser.add_argument(
        "--output-kind",
        choices=OUTPUT_KINDS,
        help="how the output becomes probabilities; default: found from the network",
    )
    parser.add_argument(
        "--presence",
        type=float,
        metavar="P",
        help="smallest probability of a class that is present, for classes that are present or absent by themselves; "
        "default: 0.5",
    )


def add_size(parser: argparse.ArgumentParser) -> None:
    """Add the size of the images."""
    parser.add_argument("--size", type=parse_size, metavar="HxW", help=SIZE_HELP)


def add_window(parser: argparse._ActionsContainer, default: str) -> None:
    """Add the window of photos of more than 8 bits; ``default`` says which values count without it."""
    parser.add_argument(
        "--window",
        type=parse_photo_window,
        metavar="BLACK,WHITE",
        help=f"values that become black and white in photos of more than 8 bits; default: {default}",
    )


def add_style(parser: argparse.ArgumentParser) -> None:
    """Add the look of an overlay."""
    parser.add_argument(
        "--colormap",
        metavar="NAME",
        help=f"a name that matplotlib knows; default: {COLORMAP}, for signed maps {SIGNED_COLORMAP}",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=ALPHA,
        metavar="A",
        help="share of the heatmap in the overlay, 0 to 1; default: %(default)s",
    )
