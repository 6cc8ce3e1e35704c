"""What the results of both demos share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar


class MapDifference(Protocol):
    """How far an artifact's answer is from the eager network's."""

    @property
    def cam(self) -> float: ...


class PhotoRecord(Protocol):
    """The record of one photo, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def differences(self) -> Mapping[str, MapDifference]: ...


Record = TypeVar("Record", bound=PhotoRecord)


@dataclass(frozen=True)
class Report(Generic[Record]):
    """The results and files of a demo.

    Attributes:
        photos: one record for each photo.
        artifacts: path of each artifact, by name of the format.
        contact_sheet: path of the picture with all panels or sheets.
    """

    photos: tuple[Record, ...]
    artifacts: Mapping[str, Path]
    contact_sheet: Path

    @property
    def largest_difference(self) -> float:
        """Largest difference between a map of an artifact and the eager network's."""
        return max(difference.cam for photo in self.photos for difference in photo.differences.values())

    def to_dict(self) -> dict[str, Any]:
        """Make the record for JSON, with paths as text."""
        photos = [{name: _as_text(value) for name, value in asdict(photo).items()} for photo in self.photos]
        artifacts = {name: str(path) for name, path in self.artifacts.items()}
        return {"photos": photos, "artifacts": artifacts, "contact_sheet": str(self.contact_sheet)}


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
