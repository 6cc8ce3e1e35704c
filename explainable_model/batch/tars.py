"""Lists the photos of a WebDataset tar; none of them is read or unpacked."""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from explainable_model.batch.photos import TAR, Photo
from explainable_model.batch.stores import Stores, locate
from explainable_model.errors import InputError
from explainable_model.explainer.photos import ENDINGS

LABEL_ENDINGS = (".cls", ".label")
LONGEST_LABEL = 1000


def list_tar(path: str) -> Iterator[Photo]:
    """List the photos of a tar in their order, each with the label in ``NAME.cls`` beside ``NAME.jpg``.

    Raises:
        InputError: no tar, a compressed one, or a damaged one.
    """
    try:
        with Stores().open_file(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            yield from _list_samples(archive, path)
    except (tarfile.TarError, EOFError) as error:
        raise InputError(
            f"{path} is no tar, or a compressed or damaged one ({error}). Processes read the photos of a tar in place: "
            "uncompress it first, with gunzip or zstd -d."
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _list_samples(archive: tarfile.TarFile, path: str) -> Iterator[Photo]:
    """A sample of WebDataset is a run of neighbors whose names agree up to the first dot."""
    sample, key, label = list[Photo](), "", None
    named, uri, container = locate(path)
    for member in archive:
        if not member.isfile():
            continue
        name = _find_key(member.name)
        if name != key:
            yield from _finish(sample, label)
            sample, key, label = [], name, None
        ending = os.path.splitext(member.name)[1].lower()
        if ending in ENDINGS:
            sample.append(
                Photo(
                    f"{named}#{member.name}",
                    f"{uri}#{member.name}",
                    kind=TAR,
                    container=container,
                    first=member.offset_data,
                    second=member.size,
                )
            )
        elif ending in LABEL_ENDINGS and member.size <= LONGEST_LABEL:
            stream = archive.extractfile(member)
            label = stream.read().decode("utf-8", "replace").strip() if stream else None
        archive.members = []  # type: ignore[attr-defined]  # the list of a large tar would grow with it
    yield from _finish(sample, label)


def _finish(sample: list[Photo], label: str | None) -> Iterator[Photo]:
    for photo in sample:
        yield photo if label is None else replace(photo, label=label)


def _find_key(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return str(Path(folder) / file.split(".")[0])
