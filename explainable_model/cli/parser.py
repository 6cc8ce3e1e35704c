"""The parser of every command: mistakes in one line with the nearest name, examples under the help, completion."""

import argparse
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from explainable_model.cli.console import PROGRAM
from explainable_model.errors import InputError
from explainable_model.spelling import suggest


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, like every other error, and takes no abbreviation of an option."""

    def __init__(self, **options: Any) -> None:
        fixed = {"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter}
        super().__init__(**{**options, **fixed})

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as an ``InputError``."""
        raise InputError(f"{message}{'' if message.endswith(('.', '?')) else '.'} See: {self.prog} --help")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments; an unknown option is refused with the nearest of its command."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser: Parser = getattr(found, "parser", self)
            options = [option for action in parser._actions for option in action.option_strings]
            wrong = next((each for each in unknown if each.startswith("-")), unknown[0])
            hint = suggest(wrong.partition("=")[0], options) if wrong.startswith("-") else ""
            parser.error(f"unrecognized arguments: {' '.join(unknown)}.{hint}")
        return found

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = suggest(str(value), known)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r} (choose from {', '.join(known)}).{hint}")


class Version(argparse.Action):
    """Prints the version, which is read when somebody asks for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it."""
        from importlib.metadata import version

        print(version("explainable-model"))
        parser.exit()


def show_examples(*lines: str) -> str:
    """Write the examples under the help of a command."""
    return "\n".join(("examples:", *(f"  {PROGRAM} {line}" for line in lines)))


def complete_words(parser: argparse.ArgumentParser) -> None:
    """Answer a shell that asks for the next word, where argcomplete is installed.

    A shell asks after ``eval "$(register-python-argcomplete explainable-model)"``.
    """
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    argcomplete.autocomplete(parser)
