"""``explainable-model inspect``: print an artifact's metadata."""

import argparse

from explainable_model.cli.console import Console
from explainable_model.cli.outcome import Outcome, format_value


def inspect(arguments: argparse.Namespace, console: Console) -> Outcome:
    """Print an artifact's metadata."""
    from explainable_model.runtime import read_metadata

    metadata = read_metadata(arguments.file)
    record = metadata.to_dict()
    names, reference = record.pop("class_names"), record.pop("reference")
    if record["preprocess"] and record["preprocess"]["resize"] is None:
        record["preprocess"]["resize"] = "to size, whatever the proportions"
    record["sizes"] = None if metadata.sizes is None else [str(size) for size in metadata.sizes]
    lines = [f"{key}: {format_value(value)}" for key, value in record.items()]
    lines.append(f"class_names: {f'{len(names)}, from {names[0]!r} to {names[-1]!r}' if names else 'not recorded'}")
    lines.append(f"reference answer: {'recorded' if reference else 'not recorded'}")
    return Outcome("\n".join(lines), {"path": str(arguments.file), **metadata.to_dict()})
