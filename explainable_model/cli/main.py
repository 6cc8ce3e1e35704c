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
from explainable_model.cli.method_options import add_method_options, count, size
from explainable_model.cli.outcome import FAILED, USAGE
from explainable_model.errors import ExplainableModelError, InputError, VerificationError
from explainable_model.exporters import FORMATS
from explainable_model.imaging.overlay import ALPHA, COLORMAP, HIDE, SIGNED_COLORMAP

INTERRUPTED = 130
BROKEN_PIPE = 141
PRECISION_HELP = (
    "of " + ", ".join(fmt.name for fmt in FORMATS.values() if fmt.precisions) + " artifacts; default: the network's own"
)
OUT_HELP = "the suffix picks the format: " + ", ".join(suffix for fmt in FORMATS.values() for suffix in fmt.suffixes)
MODEL_HELP = "torchvision:NAME, timm:NAME, transformers:FOLDER, or package.module:factory"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; the process's own by default.

    Returns:
        The exit code: 0 done, 1 a verification that failed, 2 a mistake in what was asked for
        (said in one line on stderr), 130 interrupted.
    """
    console = Console(progress=False)
    try:
        arguments = build_parser().parse_args(argv)
        console = Console(progress=sys.stderr.isatty() and not arguments.json)
        # Whatever a network prints while it is loaded or run is not the result.
        with contextlib.redirect_stdout(sys.stderr), _own_modules():
            outcome = arguments.command(arguments, console)
        for error in outcome.errors:
            console.error(error)
        _print(json.dumps(outcome.record, indent=2) if arguments.json else outcome.text)
        code: int = outcome.code
        return code
    except BrokenPipeError:  # the reader had enough, as in "| head"
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
    """Every command and its options."""
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


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other error."""

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
    _add_look(parser)


def _add_explain(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "explain", explain.explain, "predict and explain photos")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", metavar="NAME", help=MODEL_HELP)
    source.add_argument("--artifact", type=Path, metavar="FILE", help="a file made by export")
    _add_weights(parser)
    add_method_options(parser, all_methods=True)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pictures")
    parser.add_argument("--class", dest="class_wanted", metavar="N|NAME", help="default: the predicted class")
    _add_look(parser)
    parser.add_argument("--threshold", type=float, default=0.0, metavar="T", help="of the map, in [0, 1], for --hide")
    parser.add_argument(
        "--hide", choices=HIDE, default=HIDE[0], help="what the overlay hides below the threshold; default: %(default)s"
    )


def _add_export(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "export", export.export, "write one artifact that predicts and explains")
    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    _add_weights(parser)
    add_method_options(parser)
    _add_size(parser)
    parser.add_argument("--dynamic-size", action="store_true", help="take images of any height and width")
    parser.add_argument("--batch", type=count, metavar="N", help="take exactly N images at once; default: any number")
    photos = parser.add_argument_group("photos instead of prepared images")
    photos.add_argument(
        "--pixels",
        choices=PIXELS,
        help="take photos of any size in that layout (uint8, RGB): their preparation is inside",
    )
    photos.add_argument("--render", choices=["overlay"], help="return the photo under its map, too; needs --pixels")
    photos.add_argument("--colormap", metavar="NAME", help="of the overlay, a name that matplotlib knows")
    photos.add_argument("--alpha", type=float, metavar="A", help=f"of the heatmap in the overlay; default: {ALPHA}")
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
    parser = _command(children, "verify", verify.verify, "check an artifact against its recorded answer")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--model", metavar="NAME", help=f"compare with this network too: {MODEL_HELP}")
    _add_weights(parser)


def _add_inspect(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "inspect", inspect.inspect, "what an artifact says about itself")
    parser.add_argument("file", type=Path, metavar="FILE")


def _add_layers(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "layers", layers.layers, "the layers of a network that can be explained")
    parser.add_argument("--model", required=True, metavar="NAME", help=MODEL_HELP)
    _add_weights(parser)
    _add_size(parser)


def _add_methods(children: "argparse._SubParsersAction[_Parser]") -> None:
    parser = _command(children, "methods", methods.methods, "the methods, their papers, costs and options")
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
    weights.add_argument("--pretrained", action="store_true", help="torchvision's or timm's own (uses the network)")
    parser.add_argument("--classes", type=int, metavar="N", help="how many, if not torchvision's or timm's default")


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=size, metavar="HxW", help="of the images, e.g. 224x224; default: as trained")


def _add_look(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--colormap", metavar="NAME", help=f"matplotlib's; default: {COLORMAP}, {SIGNED_COLORMAP} of signed maps"
    )
    parser.add_argument("--alpha", type=float, default=ALPHA, help="share of the heatmap; default: %(default)s")


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Let ``module:factory`` name a module in the current folder, as ``python -m`` would."""
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
