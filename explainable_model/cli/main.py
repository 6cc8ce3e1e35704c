# PYTHON_ARGCOMPLETE_OK
"""The command line: ``explainable-model demo | explain | export | verify | inspect | layers | methods | ...``."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

from explainable_model.cli.commands import build_parser
from explainable_model.cli.console import Console
from explainable_model.cli.outcome import FAILED, USAGE
from explainable_model.cli.parser import complete_words
from explainable_model.errors import ExplainableModelError, VerificationError

INTERRUPTED = 130
BROKEN_PIPE = 141


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
        parser = build_parser()
        complete_words(parser)
        arguments = parser.parse_args(argv)
        quiet = arguments.json or getattr(arguments, "jsonl", False)
        console = Console(progress=sys.stderr.isatty() and not quiet)
        command = getattr(import_module(f"explainable_model.cli.{arguments.command}"), arguments.command)
        # Only the result goes to stdout: what a network prints while it is loaded or run goes to stderr.
        with contextlib.redirect_stdout(sys.stderr), _import_from_here():
            outcome = command(arguments, console)
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
