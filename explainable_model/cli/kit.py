"""``explainable-model kit``: list the kits, or copy one into a new folder."""

import argparse

from explainable_model.cli.console import PROGRAM, Console
from explainable_model.cli.kit_files import KITS, copy_kit, find_kit
from explainable_model.cli.outcome import Outcome, align_columns
from explainable_model.errors import InputError


def kit(arguments: argparse.Namespace, console: Console) -> Outcome:
    """List the kits, or copy one."""
    name, folder = arguments.name, arguments.folder
    if name is None:
        rows = align_columns([(name, each.summary) for name, each in KITS.items()])
        records = [{"kit": name, "summary": each.summary} for name, each in KITS.items()]
        return Outcome(f"{rows}\nCopy one with: {PROGRAM} kit NAME DIR", {"kits": records})
    if folder is None:
        find_kit(name)
        raise InputError(f"Where should the kit go? Name a new folder: {PROGRAM} kit {name} my-{name}")
    files = copy_kit(name, folder)
    page = folder / name / "README.md"
    text = f"{folder}: {len(files)} files of the kit {name}. Go on with {page}."
    return Outcome(
        text, {"kit": name, "folder": str(folder), "page": str(page), "files": [str(file) for file in files]}
    )
