"""The command line: ``explainable-model demo | explain | export | verify | inspect | layers | methods``."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from explainable_model.artifact.metadata import PRECISIONS, PROFILES
from explainable_model.artifact.shapes import PIXELS
from explainable_model.cli import demo, explain, export, inspect, layers, methods, verify
from explainable_model.cli.console import PROGRAM, Console
from explainable_model.cli.method_options import add_method_options, parse_count, parse_photo_window, parse_size
from explainable_model.cli.outcome import FAILED, USAGE
from explainable_model.errors import ExplainableModelError, InputError, VerificationError
from explainable_model.explanation import OUTPUT_KINDS
from explainable_model.exporters import FORMATS
from explainable_model.imaging.overlay import ALPHA, COLORMAP, HIDE, SIGNED_COLORMAP

INTERRUPTED = 130
BROKEN_PIPE = 141
PRECISION_HELP = (
    "of " + ", ".join(fmt.name for fmt in FORMATS.values() if fmt.precisions) + " artifacts; default: the network's own"
)
TRUSTED_HELP = "open the artifact even where it may run code: only for files whose maker you trust"
OUT_HELP = "the suffix picks the format: " + ", ".join(suffix for fmt in FORMATS.values() for suffix in fmt.suffixes)
MODEL_HELP = "torchvision:NAME, timm:NAME, transformers:FOLDER, onnx:FILE, or package.module:factory"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code: 0 done, 1 a verification or some photos failed, 2 a mistake in what was asked for
        (one line on stderr says which), 130 interrupted, 141 a reader that closed the pipe.
    """
    console = Console(progress=False)
    try:
        arguments = build_parser().parse_args(argv)
        quiet = arguments.json or getattr(arguments, "jsonl", False)
        console = Console(progress=sys.stderr.isatty() and not quiet)
        # Only the result goes to stdout: what a network prints while it is loaded or run goes to stderr.
        with contextlib.redirect_stdout(sys.stderr), _import_from_here():
            outcome = arguments.command(arguments, console)
        for error in outcome.errors:
            console.error(error)
        _print(json.dumps(outcome.record, indent=2) if arguments.json else outcome.text)
        return int(outcome.code)
    except BrokenPipeError:  # the reader closed the pipe, as in "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        console.error("interrupted.")
        return INTERRUPTED
    except VerificationError as error:
        console.error(str(error))
        return FAILED
    except (ExplainableModelError, ValueError, ImportError, OSError) as error:
        console.error(str(error) or type(error).__name__)
        return USAGE
    except SystemExit as stop:  # argparse, after --help or --version
        return stop.code if isinstance(stop.code, int) else 0


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of every command and its options."""
    parser = _Parser(
        prog=PROGRAM,
        description="A trained vision network in, one artifact out, that returns the prediction and the class "
        "activation map that explains it.",
        epilog="Start with: explainable-model demo",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    children = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_demo(children)
    _add_explain(children)
    _add_export(children)
    _add_verify(children)
    _add_inspect(children)
    _add_layers(children)
    _add_methods(children)
    return parser


def _list_suffixes() -> str:
    """Name the suffixes of every format."""
    suffixes = [suffix for fmt in FORMATS.values() for suffix in fmt.suffixes]
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}. See: {self.prog} --help")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(version("explainable-model"))
        parser.exit()


def _add_demo(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "demo", demo.demo, "explain photos with real weights in three formats")
    parser.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR", help="default: %(default)s")
    _add_style(parser)


def _add_explain(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "explain", explain.explain, "predict and explain photos")
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO", help="a file, a folder with its subfolders, or a pattern"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="NAME", help=MODEL_HELP)
    source.add_argument("--artifact", type=Path, metavar="FILE", help="a file made by export")
    _add_trusted(parser)
    _add_weights(parser)
    _add_output_kind(parser)
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
    parser.add_argument(
        "--window",
        type=parse_photo_window,
        metavar="BLACK,WHITE",
        help="values that become black and white in photos of more than 8 bits; default: those of the file or its type",
    )
    _add_style(parser)
    parser.add_argument(
        "--threshold", type=float, default=0.0, metavar="T", help="value of the map, 0 to 1, below which --hide applies"
    )
    parser.add_argument(
        "--hide", choices=HIDE, default=HIDE[0], help="what the overlay hides below the threshold; default: %(default)s"
    )


def _add_export(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "export", export.export, "write one artifact that predicts and explains")
    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    _add_weights(parser)
    _add_output_kind(parser)
    add_method_options(parser)
    _add_size(parser)
    parser.add_argument("--dynamic-size", action="store_true", help="take images of any height and width")
    parser.add_argument(
        "--batch", type=parse_count, metavar="N", help="take exactly N images at once; default: any number"
    )
    photos = parser.add_argument_group("photos instead of prepared images")
    photos.add_argument(
        "--pixels",
        choices=PIXELS,
        help="take photos of any size in this layout (uint8, RGB) and prepare them inside the artifact",
    )
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
    parser.add_argument("--format", metavar="NAME", help="default: what the suffix of the file stands for")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=OUT_HELP)


def _add_verify(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "verify", verify.verify, "compare an artifact with its recorded answer")
    parser.add_argument("file", type=Path, metavar="FILE")
    _add_trusted(parser)
    parser.add_argument("--model", metavar="NAME", help=f"also compare with this network: {MODEL_HELP}")
    _add_weights(parser)
    parser.add_argument(
        "--nodes", action="store_true", help="compare every node of any .onnx file in PyTorch and ONNX Runtime instead"
    )
    _add_size(parser)


def _add_inspect(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "inspect", inspect.inspect, "print an artifact's metadata")
    parser.add_argument("file", type=Path, metavar="FILE")


def _add_layers(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "layers", layers.layers, "list the layers of a network that can be explained")
    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    _add_weights(parser)
    _add_size(parser)


def _add_methods(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "methods", methods.methods, "list the methods, their papers, costs and options")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def _command(
    children: "argparse._SubParsersAction[_Parser]", name: str, run: object, summary: str
) -> argparse.ArgumentParser:
    parser = children.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    parser.set_defaults(command=run)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _add_weights(parser: argparse.ArgumentParser) -> None:
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--checkpoint", type=Path, metavar="FILE", help="trained weights: .pth, .pt or .safetensors")
    weights.add_argument("--pretrained", action="store_true", help="let torchvision or timm download its weights")
    parser.add_argument(
        "--classes", type=int, metavar="N", help="number of classes; default: that of torchvision or timm"
    )


def _add_trusted(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trusted", action="store_true", help=TRUSTED_HELP)


def _add_output_kind(parser: argparse.ArgumentParser) -> None:
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


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="HxW",
        help="size of the images, for example 224x224; default: the size in training",
    )


def _add_style(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--colormap",
        metavar="NAME",
        help=f"a name that matplotlib knows; default: {COLORMAP}, for signed maps {SIGNED_COLORMAP}",
    )
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, help="share of the heatmap in the overlay, 0 to 1; default: %(default)s"
    )


@contextlib.contextmanager
def _import_from_here() -> Iterator[None]:
    """Make the modules in the current folder importable for ``module:factory``, as ``python -m`` does."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _print(text: str) -> None:
    if text:
        print(text, flush=True)
