"""The reason why a file cannot be shown to be harmless."""

from pathlib import Path

from explainable_model.errors import UntrustedArtifactError


class Refusal(Exception):
    """A part of a file that the exporters of this library do not write; the message ends a sentence."""


def shorten(text: object, length: int = 60) -> str:
    """A value of the file for a message, in few characters."""
    written = repr(text)
    return written if len(written) <= length else f"{written[:length]}..."


def not_shown_harmless(path: Path, refusal: Refusal) -> UntrustedArtifactError:
    """The error for a file that may run code."""
    return UntrustedArtifactError(
        f"{path} cannot be shown to be harmless: {refusal}. A file like this could run code or read files. If you made "
        "it yourself, open it with load(..., trusted=True) or --trusted; else do not open it."
    )


def holds_machine_code(path: Path, runtime: str) -> UntrustedArtifactError:
    """The error for a file of a format that nobody can check."""
    return UntrustedArtifactError(
        f"{path} is a program for {runtime}, which can do whatever this process can do once it is opened; nothing can "
        "check it before. If you made it yourself, open it with load(..., trusted=True) or --trusted; else do not open "
        "it."
    )
