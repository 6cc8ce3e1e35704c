"""The answer for one volume: a value for each voxel, which can be saved as NIfTI or drawn as slices."""

import gzip
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from explainable_model.errors import InputError
from explainable_model.explainer.answers import TOP, Answer, label_class, probabilities
from explainable_model.explainer.explained import Explained
from explainable_model.explainer.pictures import save_answer, show_picture
from explainable_model.explanation import Explanation
from explainable_model.imaging.montage import draw_montage
from explainable_model.imaging.volumes import SUFFIXES, Volume, VolumePreprocess, Voxels, import_nibabel
from explainable_model.writing import StagedOutput

if TYPE_CHECKING:
    from PIL.Image import Image

    from explainable_model.explainer.explainer import Explainer


@dataclass(frozen=True, repr=False, eq=False)
class VolumeExplanation(Explained):
    """The prediction for one volume and the map that explains one class. Made by ``explain``; notebooks show slices.

    Attributes:
        volume: turned to RAS.
        name: of the volume, for captions.
        values: the map in RAS, of the volume's shape: in [0, 1], or in [-1, 1] for a signed map.
        logits: the network's own output, ``(classes,)`` or as it is.
        class_idx: the class that is explained.
        explainer: what explained it.
        preprocess: how the volume was prepared.
    """

    volume: Volume
    name: str
    values: Voxels
    logits: NDArray[Any]
    class_idx: int
    explainer: "Explainer"
    preprocess: VolumePreprocess

    @property
    def cam(self) -> Voxels:
        """The map in the order of the file's voxels, with the file's shape."""
        return self.volume.to_file_order(self.values)

    @property
    def class_name(self) -> str | None:
        """Name of the explained class; ``None`` where no names are known."""
        names = self.explainer.class_names
        return None if names is None else names[self.class_idx]

    @property
    def probability(self) -> float | None:
        """Probability of the explained class; ``None`` where the output has none."""
        probability: float | None = self._describe()["probability"]
        return probability

    @property
    def probabilities(self) -> NDArray[np.float64] | None:
        """Probability of each class, ``(classes,)``; ``None`` where the output has none."""
        return probabilities(self.logits[None], self.explainer.output_kind)

    @property
    def label(self) -> str:
        """The explained class in words."""
        return label_class(self._describe())

    @property
    def hottest(self) -> tuple[int, int, int]:
        """The voxel of the file where the map is largest; of equal ones, the first in RAS, through which slices go."""
        peak = np.zeros(self.values.shape, bool)
        peak.flat[int(self.values.argmax())] = True
        peak = self.volume.to_file_order(peak)
        i, j, k = np.unravel_index(int(peak.argmax()), peak.shape)
        return int(i), int(j), int(k)

    @property
    def hottest_mm(self) -> tuple[float, float, float]:
        """Where in the patient the map is largest, in millimeters, by the affine of the file."""
        x, y, z, _ = self.volume.affine @ (*self.hottest, 1)
        return float(x), float(y), float(z)

    def top(self, count: int = TOP) -> list[dict[str, Any]]:
        """List the best classes, as ``PhotoExplanation.top``."""
        best: list[dict[str, Any]] = self._describe(count)["top"]
        return best

    def montage(self, **style: Any) -> "Image":
        """Draw slices under the map: the planes through its largest value, and axial ones; see ``draw_montage``."""
        heading = f"{self.name}: {self.label}; {self.explainer.describe_method()}"
        style = {"window": self.preprocess.window, "signed": self.explainer.signed, "heading": heading, **style}
        return draw_montage(self.volume, self.values, **style)

    def show(self, **style: Any) -> None:
        """Show the montage: in the notebook, else in the system's viewer of pictures."""
        show_picture(self.montage(**style))

    def save(self, path: str | Path, **style: Any) -> Path:
        """Write the montage as PNG, JPEG or WebP, or the map as NIfTI with the affine of the file.

        Args:
            path: the file; its ending chooses the format.
            style: of the montage.

        Raises:
            InputError: another ending, or a style for NIfTI.
            MissingRuntimeError: NIfTI without nibabel.
            ArtifactError: a file that cannot be written.
        """
        path = Path(path)
        if not str(path).lower().endswith(SUFFIXES):
            return save_answer(self.montage(**style), path)
        if style:
            raise InputError(f"{', '.join(style)} shapes the montage; a map in NIfTI takes no style.")
        nibabel = import_nibabel(f"{path} is written as NIfTI, which")
        image = nibabel.Nifti1Image(np.ascontiguousarray(self.cam), self.volume.affine)
        image.header.set_xyzt_units("mm")
        content = image.to_bytes()
        with StagedOutput(path) as staged:
            staged.file.write_bytes(gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content)
            staged.commit()
        return path

    def to_dict(self) -> dict[str, Any]:
        """Describe the answer for JSON: the class, where its map is largest, how it was made, the best classes."""
        described = self._describe()
        best = described.pop("top")
        where = {"hottest": list(self.hottest), "hottest_mm": list(self.hottest_mm)}
        made = {"method": self.method, "layers": list(self.layers)}
        return {"volume": str(self.volume.path or self.name), **described, **where, **made, "top": best}

    def to_json(self) -> str:
        """Write ``to_dict`` as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.cam, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.cam.shape))
        return f"<{self.name}: {self.label}; {self.explainer.describe_method()}; map {shape}>"

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.montage().save(stream, format="PNG", compress_level=1)
        return stream.getvalue()

    def _describe(self, count: int = TOP) -> dict[str, Any]:
        answer: Answer = Explanation(self.logits[None], np.asarray([self.class_idx]), self.values[None])
        return self.explainer.describe(answer, count)
