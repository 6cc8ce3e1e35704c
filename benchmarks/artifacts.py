"""Plain and explained artifacts of a subject: written once, opened in fresh processes."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.isolation import Figures, isolated
from benchmarks.plain import PLAIN, Array
from benchmarks.subjects import Subject
from explainable_model.exporters import FORMATS

if TYPE_CHECKING:
    from explainable_model import ExplainableModel, LoweredModel

EAGER = "eager"
REFERENCE_BATCH = 2
PREDICTED = -1


@dataclass(frozen=True)
class Artifact:
    """A network in a runtime, with its explanation or without.

    Attributes:
        subject: the network and what is explained.
        runtime: key of ``FORMATS``, or ``eager``.
        explained: whether it explains.
        scratch: the folder of all artifacts.
    """

    subject: Subject
    runtime: str
    explained: bool
    scratch: Path

    @property
    def path(self) -> Path:
        """The file; the plain one is the same for every layer."""
        suffix = FORMATS[self.runtime].suffixes[0]
        subject = self.subject if self.explained else Subject(self.subject.model, "plain", self.subject.size)
        return subject.folder(self.scratch) / f"model{suffix}"

    @property
    def size(self) -> int | None:
        """Of the file and of those with its weights, in bytes; ``None`` where there is none."""
        if self.runtime == EAGER:
            return None
        weights = self.path.with_suffix(".bin") if self.runtime == "openvino" else Path(f"{self.path}.data")
        return sum(file.stat().st_size for file in (self.path, weights) if file.exists())

    def open(self, threads: int = 1) -> Callable[[Array], tuple[Array, ...]]:
        """A function from an image to the outputs: ``(logits,)`` or ``(logits, class_idx, cam)``."""
        if self.runtime == EAGER:
            return self._open_eager(threads)
        if not self.explained:
            predict = PLAIN[self.runtime].open(self.path, threads)
            return lambda image: (predict(image),)
        run, _ = FORMATS[self.runtime].open(self.path, threads)
        top_k = self.subject.top_k

        def explain(image: Array) -> tuple[Array, ...]:
            shape = (len(image),) if top_k is None else (len(image), top_k)
            return tuple(run(image, np.full(shape, PREDICTED, np.int64)))

        return explain

    def _open_eager(self, threads: int) -> Callable[[Array], tuple[Array, ...]]:
        import torch

        torch.set_num_threads(threads)
        model = self.subject.build()
        explainable = self.subject.explainable(model) if self.explained else None

        def run(image: Array) -> tuple[Array, ...]:
            with torch.inference_mode():
                tensor = torch.from_numpy(image)
                outputs = (model(tensor),) if explainable is None else explainable(tensor)
            return tuple(output.numpy() for output in outputs)

        return run

    def parity(self) -> dict[str, float]:
        """How far it is from the eager network on images that are not timed."""
        reference = np.load(self.subject.folder(self.scratch) / "reference.npz")
        images = reference["image"]
        if takes_one_image(self.runtime):
            outputs = [
                np.concatenate(each) for each in zip(*map(self.open(), np.split(images, len(images))), strict=True)
            ]
        else:
            outputs = list(self.open()(images))
        return compare_answers(dict(zip(("logits", "class_idx", "cam"), outputs, strict=False)), reference)


def compare_answers(answer: Mapping[str, Array], expected: Mapping[str, Array]) -> dict[str, float]:
    """Logits by the largest, maps (where there are some) by their range, worst image."""
    logits = expected["logits"]
    found = {"logits": float(np.abs(answer["logits"] - logits).max() / np.abs(logits).max())}
    if "cam" in answer:
        found |= compare_maps(answer["cam"], expected["cam"])
    return found


def compare_maps(cam: Array, expected: Array) -> dict[str, float]:
    """Largest difference and smallest correlation over the maps ``(..., h, w)`` of a batch."""
    ours, theirs = (each.astype(np.float64).reshape(-1, each.shape[-1] * each.shape[-2]) for each in (cam, expected))
    correlations = [
        float(np.corrcoef(a, b)[0, 1]) if a.std() * b.std() > 0 else float(np.array_equal(a, b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return {"cam": float(np.abs(ours - theirs).max()), "correlation": min(correlations)}


def ensure_artifacts(subject: Subject, runtimes: list[str], scratch: Path) -> Figures:
    """Build what is missing, in a process of its own, and say what building took and what an explanation must cost."""
    record = subject.folder(scratch) / "built.json"
    known: Figures = json.loads(record.read_text()) if record.exists() else {}
    if known.get("library") != _library_version():
        known = {"export_cpu_s": {}}
    missing = [runtime for runtime in runtimes if runtime != EAGER and runtime not in known["export_cpu_s"]]
    if missing or "floor" not in known:
        built = isolated(build_artifacts, subject, missing, scratch, timeout=1800)
        known = {**built, "export_cpu_s": {**known["export_cpu_s"], **built["export_cpu_s"]}}
        record.write_text(json.dumps(known))
    return known


def build_artifacts(subject: Subject, runtimes: list[str], scratch: Path) -> Figures:
    """Lower, and write plain and explained in every runtime asked for; runs in the process of its own."""
    import torch

    from benchmarks.graph_cost import floor, flops_ratio
    from explainable_model import lower

    torch.set_num_threads(1)
    folder, plain_folder = subject.folder(scratch), Subject(subject.model, "plain", subject.size).folder(scratch)
    for each in (folder, plain_folder):
        each.mkdir(parents=True, exist_ok=True)
    model = subject.build()
    explainable = subject.explainable(model)
    image = torch.from_numpy(subject.images(REFERENCE_BATCH))
    started = time.process_time()
    lowered = lower(explainable, image)
    lower_seconds = time.process_time() - started
    answer = explainable(image)
    np.savez(folder / "reference.npz", image=image.numpy(), logits=answer.logits.numpy(), cam=answer.cam.numpy())
    return {
        "library": _library_version(),
        "layer": explainable.target_layer,
        "floor": floor(explainable, image),
        "flops": flops_ratio(lambda: lowered(image), model, image),
        "lower_cpu_s": lower_seconds,
        "export_cpu_s": {name: _write(name, explainable, lowered, subject, scratch) for name in runtimes},
    }


def _write(
    runtime: str, explainable: "ExplainableModel", lowered: "LoweredModel", subject: Subject, scratch: Path
) -> float:
    """CPU seconds that writing the explained artifact took (lowering not included); the plain one where missing."""
    from explainable_model import lower
    from explainable_model.exporters.describe import describe

    plain, explained = (Artifact(subject, runtime, which, scratch).path for which in (False, True))
    finished = plain.with_name(f"{plain.name}.finished")
    if not finished.exists():
        PLAIN[runtime].write(explainable.model, lowered.example, plain)
        finished.touch()
    if takes_one_image(runtime):
        lowered = lower(explainable, lowered.example[:1], dynamic_batch=False)
    started = time.process_time()
    FORMATS[runtime].write(lowered, explained, describe(lowered, runtime, None, None).to_json())
    return time.process_time() - started


def _library_version() -> float:
    """When its newest file was written: what an older one made is made anew."""
    import explainable_model

    return max(file.stat().st_mtime for file in Path(explainable_model.__file__).parent.rglob("*.py"))


def takes_one_image(runtime: str) -> bool:
    """Whether the runtime's programs are for the batch size that they were exported with, here one."""
    return runtime != EAGER and FORMATS[runtime].fixed_size


def available_runtimes(names: Mapping[str, Any] | list[str]) -> list[str]:
    """Those that are installed, of some runtimes."""
    from importlib.util import find_spec

    known = [name for name in names if name == EAGER or (name in FORMATS and name in PLAIN)]
    return [name for name in known if name == EAGER or find_spec(FORMATS[name].packages[0]) is not None]
